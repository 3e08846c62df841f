"""The programs of `block_kernels`, in Triton, which is loaded when one first runs."""

from functools import cache
from typing import Any, no_type_check


@cache
def turning_program() -> Any:
    """What `turn_heads` starts for each head and some rows."""
    import triton  # pyright: ignore[reportMissingImports]
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    # The checker of shapes would come between Triton and the text that it compiles.
    @triton.jit(do_not_specialize=["n_tokens", "seq"])
    @no_type_check
    def turn(
        qkv, queries, keys, cosines, sines, query_weight, key_weight, epsilon, n_tokens, seq,
        step_of_batch, n_heads, n_kv_heads,
        d_head: tl.constexpr, half: tl.constexpr, rows: tl.constexpr,
    ):  # fmt: skip
        """Normalise and turn some rows of one head of the queries or keys.

        Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4; Su et
        al. 2021, "RoFormer", equation 34.
        """
        head = tl.program_id(0)
        token = (tl.program_id(1) * rows + tl.arange(0, rows)).to(tl.int64)[:, None]
        channel = tl.arange(0, half)[None, :]
        in_head = channel < d_head // 2
        is_there = (token < n_tokens) & in_head
        width = (n_heads + 2 * n_kv_heads) * d_head
        place = qkv + token * width + head * d_head + channel
        a = tl.load(place, mask=is_there, other=0.0).to(tl.float32)
        b = tl.load(place + d_head // 2, mask=is_there, other=0.0).to(tl.float32)
        if query_weight is not None:
            weight = (query_weight if head < n_heads else key_weight) + channel
            squares = tl.sum(a * a + b * b, axis=1)[:, None]
            scale = 1 / tl.sqrt(squares / d_head + epsilon)
            a *= scale * tl.load(weight, mask=in_head, other=0.0)
            b *= scale * tl.load(weight + d_head // 2, mask=in_head, other=0.0)
        if cosines is not None:
            angle = (token // seq) * step_of_batch + (token % seq) * (d_head // 2) + channel
            c = tl.load(cosines + angle, mask=is_there, other=0.0).to(tl.float32)
            s = tl.load(sines + angle, mask=is_there, other=0.0).to(tl.float32)
            a, b = a * c - b * s, b * c + a * s
        if head < n_heads:
            to = queries + (token * n_heads + head) * d_head + channel
        else:
            to = keys + (token * n_kv_heads + head - n_heads) * d_head + channel
        tl.store(to, a, mask=is_there)
        tl.store(to + d_head // 2, b, mask=is_there)

    return turn


@cache
def slope_program() -> Any:
    """What `heads_slope` starts for each head and a share of the rows."""
    import triton  # pyright: ignore[reportMissingImports]
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    @triton.jit(do_not_specialize=["n_tokens", "seq"])
    @no_type_check
    def slope(
        d_queries, d_keys, d_values, q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch,
        v_head, v_token, qkv, cosines, sines, query_weight, key_weight, epsilon, out, sums,
        norm_sums, n_tokens, seq, step_of_batch, n_heads, n_kv_heads,
        has_bias: tl.constexpr, d_head: tl.constexpr, half: tl.constexpr, rows: tl.constexpr,
    ):  # fmt: skip
        """Take slopes of one head back through turning and norm, and add them up over rows.

        With x the input, r its reciprocal root mean square, w the weights and g the slope in the
        result, the slope in x is r (w g - x r² mean(x w g)), and that in w is Σ g x r.
        """
        head, program = tl.program_id(0), tl.program_id(1)
        is_turned = head < n_heads + n_kv_heads
        if head < n_heads:
            source, by_batch, by_token = d_queries + head * q_head, q_batch, q_token
        elif is_turned:
            source, by_batch, by_token = d_keys + (head - n_heads) * k_head, k_batch, k_token
        else:
            source, by_batch = d_values + (head - n_heads - n_kv_heads) * v_head, v_batch
            by_token = v_token
        channel = tl.arange(0, half)[None, :]
        in_head = channel < d_head // 2
        width = (n_heads + 2 * n_kv_heads) * d_head
        # Each row has sums of its own: only at the end do threads hear of each other.
        sum_a, sum_b = tl.zeros([rows, half], tl.float32), tl.zeros([rows, half], tl.float32)
        norm_a, norm_b = tl.zeros([rows, half], tl.float32), tl.zeros([rows, half], tl.float32)
        for first in range(program * rows, n_tokens, tl.num_programs(1) * rows):
            token = (first + tl.arange(0, rows)).to(tl.int64)[:, None]
            is_there = (token < n_tokens) & in_head
            place = source + (token // seq) * by_batch + (token % seq) * by_token + channel
            a = tl.load(place, mask=is_there, other=0.0).to(tl.float32)
            b = tl.load(place + d_head // 2, mask=is_there, other=0.0).to(tl.float32)
            if cosines is not None:  # noqa: SIM102 - decided when it is compiled
                if is_turned:
                    angle = (token // seq) * step_of_batch + (token % seq) * (d_head // 2) + channel
                    c = tl.load(cosines + angle, mask=is_there, other=0.0).to(tl.float32)
                    s = tl.load(sines + angle, mask=is_there, other=0.0).to(tl.float32)
                    a, b = a * c + b * s, b * c - a * s
            at = token * width + head * d_head + channel
            if query_weight is not None:  # noqa: SIM102
                if is_turned:
                    weight = (query_weight if head < n_heads else key_weight) + channel
                    x_a = tl.load(qkv + at, mask=is_there, other=0.0).to(tl.float32)
                    x_b = tl.load(qkv + at + d_head // 2, mask=is_there, other=0.0).to(tl.float32)
                    squares = tl.sum(x_a * x_a + x_b * x_b, axis=1)[:, None]
                    scale = 1 / tl.sqrt(squares / d_head + epsilon)
                    norm_a += a * x_a * scale
                    norm_b += b * x_b * scale
                    a *= tl.load(weight, mask=in_head, other=0.0)
                    b *= tl.load(weight + d_head // 2, mask=in_head, other=0.0)
                    shared = tl.sum(a * x_a + b * x_b, axis=1)[:, None] * scale * scale / d_head
                    a, b = scale * (a - x_a * shared), scale * (b - x_b * shared)
            if has_bias:
                sum_a += a
                sum_b += b
            tl.store(out + at, a, mask=is_there)
            tl.store(out + at + d_head // 2, b, mask=is_there)
        channel = tl.arange(0, half)
        in_head = channel < d_head // 2
        if has_bias:
            to = sums + program * width + head * d_head + channel
            tl.store(to, tl.sum(sum_a, axis=0), mask=in_head)
            tl.store(to + d_head // 2, tl.sum(sum_b, axis=0), mask=in_head)
        if query_weight is not None:  # noqa: SIM102
            if is_turned:
                to = norm_sums + (program * (n_heads + n_kv_heads) + head) * d_head + channel
                tl.store(to, tl.sum(norm_a, axis=0), mask=in_head)
                tl.store(to + d_head // 2, tl.sum(norm_b, axis=0), mask=in_head)

    return slope


@cache
def gelu_program() -> Any:
    """What `gelu_slope` starts for some columns and a share of the rows."""
    import triton  # pyright: ignore[reportMissingImports]
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    @triton.jit(do_not_specialize=["n_rows"])
    @no_type_check
    def gelu_slope(
        slope, x, out, sums, n_rows, n_columns, rows: tl.constexpr, columns: tl.constexpr
    ):
        """Take slopes back through tanh GELU, and add them up over rows.

        Source: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2.
        """
        program = tl.program_id(1)
        column = tl.program_id(0) * columns + tl.arange(0, columns)
        total = tl.zeros([rows, columns], tl.float32)
        for first in range(program * rows, n_rows, tl.num_programs(1) * rows):
            row = (first + tl.arange(0, rows)).to(tl.int64)[:, None]
            is_there = (row < n_rows) & (column < n_columns)[None, :]
            at = row * n_columns + column[None, :]
            z = tl.load(x + at, mask=is_there, other=0.0).to(tl.float32)
            g = tl.load(slope + at, mask=is_there, other=0.0).to(tl.float32)
            # tanh(y) = 1 - 2 / (exp(2 y) + 1), with y = sqrt(2 / pi) (z + 0.044715 z³).
            twice = 1.5957691216057308 * z * (1 + 0.044715 * z * z)
            share = 1 / (tl.exp(-twice) + 1)  # (1 + tanh(y)) / 2
            inner = 1.5957691216057308 * (1 + 3 * 0.044715 * z * z)
            g *= share + z * share * (1 - share) * inner
            total += g
            tl.store(out + at, g, mask=is_there)
        to = sums + program * n_columns + column
        tl.store(to, tl.sum(total, axis=0), mask=column < n_columns)

    return gelu_slope
