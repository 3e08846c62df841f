"""How long an operation takes, from others that were measured."""

import dataclasses
from pathlib import Path

import pytest
import torch

from modelwright.accounting.rates import Host, Kind, Rates, kind_and_sizes, read_rates
from modelwright.accounting.trace import Operation
from modelwright.runtime.device import Machine

machine = Machine(processor="one", gpu="two", n_threads=1, python="3", torch="2")
copies = [[2.0**n, 2e-6 + 2.0**n / 1e12] for n in range(10, 34)]


def rates(**samples: list[list[float]]) -> Rates:
    return Rates(
        device="two",
        machine=machine,
        measured="2026-01-01",
        bytes_per_second=1e12,
        flops_per_second={"bf16": 1e14, "fp32": 1e13, "tf32": 5e13},
        samples={"copy": copies} | {name.replace("__", " "): s for name, s in samples.items()},
        host=Host(step=0.0, operation=1e-5, program=1e-4, tensor=1e-6),
    )


def operation(
    name: str,
    shapes: tuple[tuple[int, ...], ...] = (),
    *,
    layout: str = "",
    dtype: torch.dtype = torch.bfloat16,
    n_flops: int = 0,
    n_bytes: int = 0,
) -> Operation:
    return Operation(
        name, "", "forward", dtype, n_flops, n_bytes, 0, 0, shapes=shapes, layout=layout
    )


def test_a_measured_product_takes_what_it_took():
    measured = rates(product__bf16__nt=[[1, 512, 512, 512, 7e-6], [1, 8192, 512, 512, 1e-4]])
    one = operation("mm", ((512, 512), (512, 512)), layout="nt", n_flops=2 * 512**3)
    assert measured.seconds(one, "bf16") == pytest.approx(7e-6, rel=0.02)


def test_between_two_measured_ones_a_product_is_as_near_to_the_ideal_as_they_are():
    # Both take twice the ideal, so what lies between does as well.
    ideal = rates()
    kind = Kind("product bf16 nn", "product")
    sizes = [(1, 1024, 1024, 1024), (1, 4096, 1024, 1024)]
    rows = [[*one, 2 * ideal.seconds_of(kind, one)] for one in sizes]
    there = (1, 2048, 1024, 1024)
    expected = 2 * ideal.seconds_of(kind, there)
    assert rates(product__bf16__nn=rows).seconds_of(kind, there) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "shapes", "layout", "expected"),
    [
        ("mm", ((2, 3), (3, 4)), "nt", ("product bf16 nt", (1, 2, 3, 4))),
        ("addmm", ((4,), (2, 3), (3, 4)), "nnt", ("product bf16 nt", (1, 2, 3, 4))),
        ("bmm", ((5, 2, 3), (5, 3, 4)), "nn", ("product bf16 several", (5, 2, 3, 4))),
        ("_to_copy", (), "", ("_to_copy bfloat16", (24.0,))),
    ],
)
def test_what_an_operation_is_compared_with(
    name: str,
    shapes: tuple[tuple[int, ...], ...],
    layout: str,
    expected: tuple[str, tuple[float, ...]],
):
    kind, sizes = kind_and_sizes(operation(name, shapes, layout=layout, n_bytes=24), "bf16")
    assert (kind.name, sizes) == expected


def test_attention_is_counted_by_heads_positions_and_width():
    name = "_scaled_dot_product_flash_attention"
    one = operation(name, ((2, 12, 1024, 64),) * 3, n_flops=1)
    kind, sizes = kind_and_sizes(one, "bf16")
    assert (kind.rule, sizes) == ("attention", (24, 1024, 64))


def test_fp32_products_are_tf32_ones_if_the_run_is():
    one = operation("mm", ((2, 3), (3, 4)), layout="nn", dtype=torch.float32)
    names = [kind_and_sizes(one, precision)[0].name for precision in ("fp32", "tf32")]
    assert names == ["product fp32 nn", "product tf32 nn"]


def test_what_was_not_measured_takes_as_long_as_a_copy():
    measured = rates(gelu__bfloat16=[[2.0**20, 1.0]])
    known, unknown = (operation(name, n_bytes=2**20) for name in ("gelu", "silu"))
    assert measured.seconds(known, "bf16") == pytest.approx(1.0)
    assert measured.seconds(unknown, "bf16") == pytest.approx(2e-6 + 2**20 / 1e12, rel=0.05)


def test_an_operation_without_traffic_takes_no_time():
    assert rates().seconds(operation("view"), "bf16") == 0


def test_shares_stretch_one_kind_or_all():
    one = operation("fused", n_bytes=2**30)
    plain = rates().seconds(one, "bf16")
    for share in ({"fused bfloat16": 1.5}, {"step": 1.5}):
        stretched = dataclasses.replace(rates(), shares=share)
        assert stretched.seconds(one, "bf16") == pytest.approx(1.5 * plain)


def test_rates_come_back_from_their_file(tmp_path: Path):
    before = rates(product__bf16__nt=[[1, 512, 512, 512, 7.1234e-6]])
    file = tmp_path / "rates.json"
    file.write_text(before.to_json())
    after = read_rates(file)
    assert (after.machine, after.host) == (before.machine, before.host)
    assert after.samples["product bf16 nt"] == [[1, 512, 512, 512, 7.1234e-6]]
    assert after.flops_per_second == before.flops_per_second


@pytest.mark.parametrize("text", ["", "[]", '{"host": null}', '{"host": {"a": 1}}'])
def test_a_file_that_holds_something_else_is_an_error_that_says_what_to_do(
    tmp_path: Path, text: str
):
    file = tmp_path / "rates.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"rates\.json holds no measured rates .* calibrate"):
        read_rates(file)
