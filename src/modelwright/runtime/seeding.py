"""One seed per run, many streams of chance.

Each use of chance (weights, data order, sampling) draws from a stream of its own, named in the
call, so that using more of one leaves the others as they were.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, stream: str) -> int:
    """The 63-bit seed of a named stream: the head of sha256("seed/stream")."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(seed: int, stream: str, device: str = "cpu") -> "torch.Generator":
    """A torch generator for a named stream."""
    import torch

    return torch.Generator(device).manual_seed(stream_seed(seed, stream))
