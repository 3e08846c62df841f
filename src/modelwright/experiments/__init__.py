"""Runs made visible: plots and the report.

Read `report.py`. Other rooms use `report.write_report`, and `landscape_report.write_landscape_page`
for the loss around a model.
"""
