"""The allocator's rules, one by one, and what a whole step comes to under them."""

import pytest
import torch

from modelwright.accounting.allocator import Allocator, NoRoom, mib, reserved_by
from modelwright.accounting.trace import Held, Operation, Trace


def test_small_tensors_share_a_segment_in_steps_of_512_bytes():
    allocator = Allocator()
    allocator.give(1)
    allocator.give(513)
    assert (allocator.allocated, allocator.reserved) == (3 * 512, 2 * mib)


def test_middling_tensors_share_a_segment_of_twenty_mib():
    allocator = Allocator()
    allocator.give(9 * mib)
    allocator.give(9 * mib)
    assert (allocator.allocated, allocator.reserved) == (18 * mib, 20 * mib)


def test_a_large_tensor_holds_the_little_that_is_left_of_its_segment():
    allocator = Allocator()
    allocator.give(11 * mib + mib // 2)
    assert allocator.reserved == 12 * mib
    assert allocator.allocated == 12 * mib  # half a MiB would be too little for another tensor


def test_more_than_a_mib_that_is_left_is_for_others():
    allocator = Allocator()
    first = allocator.give(20 * mib)
    allocator.take_back(first)
    allocator.give(12 * mib)
    allocator.give(8 * mib)
    assert allocator.reserved == 20 * mib


def test_free_neighbours_become_one_block_again():
    allocator = Allocator()
    blocks = [allocator.give(5 * mib) for _ in range(4)]
    for block in (blocks[0], blocks[2], blocks[1], blocks[3]):
        allocator.take_back(block)
    allocator.give(18 * mib)
    assert allocator.reserved == 20 * mib


def test_the_smallest_free_block_that_is_large_enough_is_taken():
    allocator = Allocator()
    large, small = allocator.give(40 * mib), allocator.give(30 * mib)
    allocator.take_back(large)
    allocator.take_back(small)
    allocator.give(30 * mib)
    allocator.give(40 * mib)
    assert allocator.reserved == 70 * mib


def test_a_free_block_in_pieces_does_not_serve_a_larger_tensor():
    allocator = Allocator()
    blocks = [allocator.give(5 * mib) for _ in range(4)]
    allocator.take_back(blocks[0])
    allocator.take_back(blocks[2])
    allocator.give(9 * mib)  # ten are free, but not side by side
    assert allocator.reserved == 40 * mib


def held(n_bytes: int, born: int, died: int | None, kind: str = "") -> Held:
    return Held(n_bytes, (), torch.float32, born, "", "", "forward", kind, died)


def operation(phase: str = "forward", scratch: int = 0) -> Operation:
    return Operation("x", "", phase, None, 0, 0, 0, 0, scratch)


def test_the_peak_of_a_step_counts_what_lasts_the_workspaces_and_what_passes():
    trace = Trace(
        [operation(), operation(scratch=12 * mib), operation("update")],
        [
            held(20 * mib, -1, None, "weights"),
            held(40 * mib, -1, None, "optimizer"),
            held(10 * mib, 0, 1),
            held(30 * mib, 1, 2),
        ],
    )
    found = reserved_by(trace, workspaces=(8 * mib,))
    assert found.allocated_bytes == (20 + 40 + 8 + 30 + 12) * mib


def test_the_optimizer_takes_its_place_after_the_first_way_back():
    """What the first step has freed by then serves it, and the second step needs other memory."""
    trace = Trace(
        [operation(), operation("update"), operation("update")],
        [
            held(20 * mib, -1, None, "weights"),
            held(30 * mib, -1, None, "optimizer"),
            held(30 * mib, 0, 1),
        ],
    )
    found = reserved_by(trace)
    assert found.reserved_bytes == (20 + 30 + 30) * mib
    first_only = reserved_by(trace, n_steps=1)
    assert first_only.reserved_bytes == (20 + 30) * mib


def test_unused_segments_go_back_before_there_is_no_room():
    allocator = Allocator(limit=100 * mib)
    first = allocator.give(60 * mib)
    allocator.take_back(first)
    allocator.give(80 * mib)  # does not fit into the free block, nor beside it
    assert allocator.reserved == 80 * mib


def test_what_lies_in_pieces_has_no_room_for_a_larger_tensor():
    allocator = Allocator(limit=100 * mib)
    whole = allocator.give(90 * mib)
    allocator.take_back(whole)
    left, middle, right = (allocator.give(30 * mib) for _ in range(3))
    allocator.take_back(left)
    allocator.take_back(right)
    assert allocator.allocated == middle.size
    with pytest.raises(NoRoom):
        allocator.give(40 * mib)


def test_a_step_fits_up_to_its_last_segment():
    lasting = held(40 * mib, -1, None, "weights")
    passing = held(50 * mib, 0, 1)
    trace = Trace([operation(), operation()], [lasting, passing])
    needed = reserved_by(trace).reserved_bytes
    assert reserved_by(trace, limit_bytes=needed).fits
    assert not reserved_by(trace, limit_bytes=needed - 1).fits
