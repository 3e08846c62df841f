"""Many runs that answer a question, and runs made visible: studies, plots and the report.

Read `study.py` for how the runs of a study come about, and `report.py` for how a run is shown.
Other rooms use `study.run_study`, `report.write_report`, and for the loss around a model
`landscape_report.write_landscape_page`.
"""
