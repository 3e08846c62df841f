"""Writes checkpoints until the disk is full, and says in JSON what happened.

    unshare --user --map-root-user --mount python full_disk.py FOLDER tmpfs
    python full_disk.py FOLDER limit

The first gives FOLDER a small disk of its own, the second lets no file grow beyond a limit.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import saving
from modelwright.checkpoint import writer
from modelwright.checkpoint.resume import newest_checkpoint
from modelwright.runtime.files import free_bytes


def error_of_saving(run: Path, step: int) -> str:
    try:
        saving.save(run, step)
    except OSError as error:
        return str(error)
    return ""


def on_a_small_disk(folder: Path) -> list[str]:
    """What is said when there is no room at the start, and when there seemed to be."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
    assert not error_of_saving(folder, 1)
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(free_bytes(folder) - 100_000))
    noticed = error_of_saving(folder, 2)
    writer.free_bytes = lambda _: 2**40
    met = error_of_saving(folder, 2)
    return [noticed, met]


def with_a_limit(folder: Path) -> list[str]:
    assert not error_of_saving(folder, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    errors = [error_of_saving(folder, 2)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return errors


def main(folder: Path, way: str) -> None:
    errors = on_a_small_disk(folder) if way == "tmpfs" else with_a_limit(folder)
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    newest, complaints = newest_checkpoint(folder)
    (folder / "ballast").unlink(missing_ok=True)
    told = {
        "errors": errors,
        "left": left,
        "newest": newest.name,
        "complaints": complaints,
        "error_with_room_again": error_of_saving(folder, 2),
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
