"""How the threads of the matrix library wait for each other."""

import os


def wait_politely() -> None:
    """Let OpenMP threads sleep soon after they run out of work; call before torch is loaded.

    By default they spin for about a millisecond, which on a machine with other work takes the
    processor from the very thread they wait for (`docs/log.md` has the measurement). A value that
    the user set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
