"""How the threads of the matrix library wait for each other."""

import os


def wait_politely() -> None:
    """Let OpenMP threads sleep sooner when they run out of work; call before torch is loaded.

    By default they spin for about a millisecond, which on a machine with other work takes the
    processor from the very thread they wait for; sleeping at once costs more than it saves on a
    quiet one (`docs/log.md` has the measurements). A value that the user set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
