"""The command line: the only room that wires the others together, prints, or ends the process.

Read `app.py` first, then the file named like the verb. A verb's file loads quickly; what it
works with is imported when it is called, so that `--help` answers at once.
"""
