"""The run-time checker of annotated shapes."""

from beartype import BeartypeConf, beartype

# An int serves where a float is annotated, as in Python itself.
checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
