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
