"""Typed settings: what may be set, what a value must be, and where each one came from.

Read `schema.py` first. Other rooms decorate their settings with `schema.settings`; the command
line reads a recipe with `loading.load_settings` and writes it back with `loading.to_toml`.
"""
