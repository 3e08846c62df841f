"""The program of `norm_kernels`, in Triton, which is loaded when it first runs."""

from functools import cache
from typing import Any, no_type_check


@cache
def norm_program() -> Any:
    """What `norm_slope` starts for a share of the rows."""
    import triton  # pyright: ignore[reportMissingImports]
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    # The checker of shapes would come between Triton and the text that it compiles.
    @triton.jit
    @no_type_check
    def added(a, b, c, more_a, more_b, more_c):
        return a + more_a, b + more_b, c + more_c

    @triton.jit(do_not_specialize=["n_rows"])
    @no_type_check
    def norm_slope(
        d_normed, d_stream, x, weight, epsilon, out, sums, n_rows,
        is_centred: tl.constexpr, has_bias: tl.constexpr, width: tl.constexpr,
        block: tl.constexpr, rows: tl.constexpr, ahead: tl.constexpr,
    ):  # fmt: skip
        """Take slopes of some rows back through a norm, and add them up over rows.

        With x the input, less its mean in a LayerNorm, r the reciprocal of its root mean square, w
        the weights and g the slope in the result, the slope in x is
        r (w g - x r² mean(x w g)), less the mean of r w g in a LayerNorm; that in w is Σ g x r, and
        that in the bias is Σ g.
        """
        program = tl.program_id(0)
        column = tl.arange(0, block)[None, :]
        in_row = column < width
        w = tl.load(weight + column, mask=in_row, other=0.0).to(tl.float32)
        # Each row has sums of its own: only at the end do threads hear of each other.
        d_weight, d_bias = tl.zeros([rows, block], tl.float32), tl.zeros([rows, block], tl.float32)
        step = tl.num_programs(0) * rows
        for first in tl.range(program * rows, n_rows, step, num_stages=ahead):
            row = (first + tl.arange(0, rows)).to(tl.int64)[:, None]
            is_there = (row < n_rows) & in_row
            at = row * width + column
            z = tl.load(x + at, mask=is_there, other=0.0).to(tl.float32)
            g = tl.load(d_normed + at, mask=is_there, other=0.0).to(tl.float32)
            if is_centred:
                z = tl.where(in_row, z - tl.sum(z, axis=1)[:, None] / width, 0.0)
            scaled = g * w
            # At once, since threads wait for each other whenever a row is added up.
            squares, shared, whole = tl.reduce((z * z, z * scaled, scaled), 1, added)
            r = 1 / tl.sqrt(squares[:, None] / width + epsilon)
            d_weight += g * z * r
            if has_bias:
                d_bias += g
            back = scaled - z * (shared[:, None] * r * r / width)
            if is_centred:
                back -= whole[:, None] / width
            back *= r
            if d_stream is not None:
                back += tl.load(d_stream + at, mask=is_there, other=0.0).to(tl.float32)
            tl.store(out + at, back, mask=is_there)
        column = tl.arange(0, block)
        to = sums + program.to(tl.int64) * (width * (1 + has_bias)) + column
        tl.store(to, tl.sum(d_weight, axis=0), mask=column < width)
        if has_bias:
            tl.store(to + width, tl.sum(d_bias, axis=0), mask=column < width)

    return norm_slope
