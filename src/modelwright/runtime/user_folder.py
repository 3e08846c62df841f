"""Where what belongs to this machine and its user is kept, outside of any run."""

import os
from pathlib import Path


def user_folder() -> Path:
    """`$MODELWRIGHT_HOME`, else `modelwright` in `$XDG_CACHE_HOME` or in `~/.cache`."""
    named = os.environ.get("MODELWRIGHT_HOME")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "modelwright"


def keep_gpu_programs_together() -> None:
    """Let what Triton compiles lie in one folder, whoever asks for it; a folder the user set stays.

    PyTorch's compiler moves Triton's folder when it makes a program, but not when it finds one that
    it made before. Kernels of our own would lie elsewhere in the second run than in the first, and
    be compiled once more.
    """
    home = Path(os.environ.get("TRITON_HOME") or Path.home())
    os.environ.setdefault("TRITON_CACHE_DIR", str(home / ".triton" / "cache"))
