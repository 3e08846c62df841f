"""Many runs that answer a question, and runs made visible: studies, verdicts, plots and reports.

Read `study.py` for how the runs of a study come about, `statistics.py` for the verdicts,
`study_results.py` and `study_report.py` for how they are read, judged and shown, and `report.py`
for how one run is. Other rooms use `study.run_study`, `report.write_report`,
`study_report.write_study_report`, `run_groups.study_of` for any runs, and for the loss around a
model `landscape_report.write_landscape_page`.
"""
