"""Runs made visible: plots and the report.

Read `report.py`. Other rooms use `report.write_report`.
"""
