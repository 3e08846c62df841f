"""What things cost, in closed form.

Read `parameters.py`. Other rooms use `parameters.count_parameters`.
"""
