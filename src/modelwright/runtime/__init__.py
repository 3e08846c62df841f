"""The machine underneath: devices, seeds, files, signals and progress.

Read `files.py` first: everything the project writes goes through it. Other rooms use
`files.write_atomically`, `files.folder_in_one_piece`, `files.lock_folder`, `manifest.verify_files`,
`seeding.stream_seed`, `device.choose_device`, `interrupts.stop_on_signals` and the
`progress.Progress` they report with.
"""
