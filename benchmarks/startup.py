"""How long `modelwright --help` takes, beside an empty Python: the median of eleven runs each.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time

n_runs = 11


def seconds(arguments: list[str]) -> float:
    """The median time of a command."""
    taken = []
    for _ in range(n_runs):
        began = time.perf_counter()
        subprocess.run(arguments, check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Measure both and print their ratio."""
    empty = seconds([sys.executable, "-c", "pass"])
    shown = seconds([sys.executable, "-m", "modelwright", "--help"])
    print(f"python -c pass      {empty:.3f} s")
    print(f"modelwright --help  {shown:.3f} s, {shown / empty:.1f} times an empty Python")


if __name__ == "__main__":
    main()
