"""The parts of a step on one GPU, alone and in several ways, to see which way each is to be done.

    python benchmarks/step_parts_gpu.py [--out FILE] [--only loss slope attention update sums norms]

Prints a table in Markdown: milliseconds (the median of several), and the bytes or operations that
the part needs at least over what the GPU can do, as the share of it that is reached.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._functorch import config as functorch_config

from modelwright.data.loader import not_a_target
from modelwright.model import block_kernels, gpu_kernels, norm_kernels
from modelwright.model.attention_speed import AttentionShape, attention_seconds
from modelwright.model.block_kernels import gelu_slope, heads_slope, turn_heads
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.cross_entropy import ChunkedLoss, surprise_and_slope
from modelwright.model.gpu_kernels import gpu_surprise_and_slope
from modelwright.model.norm_kernels import norm_slope
from modelwright.model.norms import LayerNorm, RMSNorm
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import describe_machine
from modelwright.training import adamw_kernel
from modelwright.training.fused import FusedAdamW, move_by_torch
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.step import measure_gradient

N_ROUNDS = 9
N_IN_A_ROW = 4
N_CYCLES_ASLEEP = 8_000_000  # of the GPU's clock: some milliseconds
D_MODEL, N_VOCAB, N_ROWS = 768, 50_257, 50_304
cuda = torch.device("cuda")


@dataclass(frozen=True)
class Row:
    """One way to do a part."""

    part: str
    way: str
    milliseconds: float
    n_bytes: float = 0.0
    n_flops: float = 0.0

    def shares(self, bytes_per_second: float, flops_per_second: float) -> str:
        """Which part of the time the least bytes and operations would take."""
        seconds = self.milliseconds / 1000
        by_bytes, by_flops = self.n_bytes / bytes_per_second, self.n_flops / flops_per_second
        told = [f"{by_bytes / seconds:.0%} of the bandwidth"] if by_bytes else []
        return ", ".join(told + ([f"{by_flops / seconds:.0%} of a product"] if by_flops else []))


def milliseconds(work: Callable[[], Any]) -> float:
    """The median time of some work, after two times that are not counted.

    The GPU sleeps until the host has asked for all that is timed, so that it never waits for it.
    """
    found = []
    for _ in range(N_ROUNDS + 2):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(N_CYCLES_ASLEEP)  # pyright: ignore[reportPrivateUsage]
        began.record()
        for _ in range(N_IN_A_ROW):
            work()
        ended.record()
        ended.synchronize()
        found.append(began.elapsed_time(ended) / N_IN_A_ROW)
    return statistics.median(found[2:])


def ceilings() -> tuple[float, float]:
    """Bytes a second of a large copy, and operations a second of a large product in bf16."""
    source = torch.randn(2**28, device=cuda)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) * 1000
    a, b = (torch.randn(8192, 8192, device=cuda, dtype=torch.bfloat16) for _ in range(2))
    return copied, 2 * 8192**3 / milliseconds(lambda: a @ b) * 1000


def loss_rows(n_tokens: int) -> Iterator[Row]:
    """The loss of GPT-2 small's last hidden states forward and backward."""
    hidden = torch.randn(n_tokens, D_MODEL, device=cuda, dtype=torch.bfloat16).requires_grad_()
    weight = (0.02 * torch.randn(N_ROWS, D_MODEL, device=cuda)).requires_grad_()
    targets = torch.randint(N_VOCAB, (n_tokens,), device=cuda)
    ways: dict[str, Any] = {
        "torch": torch.compile(surprise_and_slope),
        "triton": gpu_surprise_and_slope,
    }
    n_flops = 6 * n_tokens * D_MODEL * N_ROWS
    for name, slope_of in ways.items():
        for chunk in (2048, 2668, 4096, 8192, 16_384):
            torch.cuda.reset_peak_memory_stats()

            def work(slope_of: Any = slope_of, chunk: int = chunk) -> None:
                scale = 1 / n_tokens
                loss = ChunkedLoss.apply(hidden, weight, targets, N_VOCAB, scale, slope_of, chunk)
                torch.autograd.grad(loss, (hidden, weight))

            took = milliseconds(work)
            peak = torch.cuda.max_memory_allocated() / 2**30
            yield Row("loss", f"{name}, chunks of {chunk}, {peak:.2f} GiB", took, 0, n_flops)


def slope_rows() -> Iterator[Row]:
    """The slope of logits that are there, by the kernel's numbers."""
    n_tokens = 8192
    logits = torch.randn(n_tokens, N_ROWS, device=cuda, dtype=torch.bfloat16)
    targets = torch.randint(N_VOCAB, (n_tokens,), device=cuda)
    targets[::7] = not_a_target
    compiled = torch.compile(surprise_and_slope)
    took = milliseconds(lambda: compiled(logits, targets, N_VOCAB, 1.0))
    yield Row("slope", "torch, compiled", took, 2 * logits.nbytes)
    names = ("lanes", "parts", "warps")
    usual = [getattr(gpu_kernels, name) for name in names]
    cuts = ((1024, 2, 4), (1024, 4, 4), (2048, 1, 4), (2048, 1, 8), (2048, 2, 8), (2048, 4, 8))
    for cut in (*cuts, (2048, 2, 4), (4096, 1, 8), (4096, 1, 16)):
        for name, value in zip(names, cut, strict=True):
            setattr(gpu_kernels, name, value)
        took = milliseconds(lambda: gpu_surprise_and_slope(logits, targets, N_VOCAB, 1.0))
        way = f"triton, {cut[0]} lanes x {cut[1]}, {cut[2]} warps"
        yield Row("slope", way, took, 2 * logits.nbytes)
    for name, value in zip(names, usual, strict=True):
        setattr(gpu_kernels, name, value)


def added_products() -> Iterator[Row]:
    """Ways to add the product of a chunk's slopes and hidden states to a gradient in fp32."""
    for n_tokens in (2668, 8192):
        slopes = torch.randn(n_tokens, N_ROWS, device=cuda, dtype=torch.bfloat16)
        hidden = torch.randn(n_tokens, D_MODEL, device=cuda, dtype=torch.bfloat16)
        total = torch.zeros(N_ROWS, D_MODEL, device=cuda)
        n_flops = 2 * n_tokens * D_MODEL * N_ROWS

        def rounded(slopes: Tensor = slopes, hidden: Tensor = hidden, total: Any = total) -> None:
            total += slopes.T @ hidden

        def wide(slopes: Tensor = slopes, hidden: Tensor = hidden, total: Any = total) -> None:
            total += torch.mm(slopes.T, hidden, out_dtype=torch.float32)

        def in_place(slopes: Tensor = slopes, hidden: Tensor = hidden, total: Any = total) -> None:
            torch.ops.aten.addmm.dtype_out(total, slopes.T, hidden, torch.float32, out=total)

        for work in (rounded, wide, in_place):
            try:
                took = milliseconds(work)
            except (RuntimeError, NotImplementedError, AttributeError) as error:
                print(f"{work.__name__}: {error}")
                continue
            yield Row("added product", f"{work.__name__}, {n_tokens} tokens", took, 0, n_flops)


def attention_rows() -> Iterator[Row]:
    """Attention forward and backward, by kind."""
    kinds: tuple[AttentionKind, ...] = ("flash", "cudnn", "efficient")
    shapes = [
        AttentionShape(
            n_sequences=n,
            n_heads=heads,
            n_kv_heads=groups,
            n_tokens=seq,
            d_head=d,
            dtype=torch.bfloat16,
        )
        for n, heads, groups, seq, d in (
            (8, 12, 12, 1024, 64),
            (64, 12, 12, 1024, 64),
            (16, 25, 25, 1024, 64),
            (32, 6, 6, 2048, 128),
            (8, 32, 8, 2048, 128),
        )
    ]
    for shape in shapes:
        # Two products forward and five backward, of which half is hidden.
        pairs = shape.n_sequences * shape.n_heads * shape.n_tokens**2 / 2
        n_flops = 7 * 2 * pairs * shape.d_head
        for kind in kinds:
            took = 1000 * attention_seconds(kind, shape, cuda)
            yield Row(
                "attention", f"{kind}, {shape.name(cuda).split(', ', 2)[2]}", took, 0, n_flops
            )


def update_rows() -> Iterator[Row]:
    """Clipping and the update of GPT-2 small by rule, and AdamW by its kernels and their cuts."""
    model = Transformer(gpt2(12, 768), dtype=torch.bfloat16).to(cuda)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02)
    n_parameters = sum(p.numel() for p in model.parameters())
    for kind in ("adamw", "sgd", "muon"):
        optimizer = make_optimizer(model, OptimizerConfig(kind=kind))
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)

        def work(optimizer: Any = optimizer) -> None:
            _, divisor = measure_gradient(model, 1.0, 1.0)
            optimizer.step(1e-4, divisor=divisor, void=torch.zeros_like(divisor))

        # The norm reads the gradient; AdamW reads four numbers and writes three.
        n_bytes = (4 + 28) * n_parameters if kind == "adamw" else 0
        yield Row("update", kind, milliseconds(work), n_bytes)
    del model, optimizer, work
    yield from adamw_rows("GPT-2 small", gpt2(12, 768))
    yield from adamw_rows("GPT-2 XL", gpt2(48, 1600))


def gpt2(n_layers: int, d_model: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=N_ROWS,
        context=1024,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=d_model // 64,
        bias=True,
    )


def adamw_rows(name: str, shape: ModelConfig) -> Iterator[Row]:
    """AdamW of a model's tensors, without the norm: on the device, and what the host takes."""
    with torch.device("meta"):
        shapes = [parameter.shape for parameter in Transformer(shape).parameters()]
    parameters = [torch.nn.Parameter(0.02 * torch.randn(one, device=cuda)) for one in shapes]
    optimizer = FusedAdamW([{"params": parameters, "lr": 1e-4}], betas=(0.9, 0.95), epsilon=1e-8)
    optimizer.grad_scale, optimizer.found_inf = torch.ones(2, device=cuda).mul_(3.7).unbind()
    optimizer.found_inf.zero_()
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    n_bytes = 28 * sum(parameter.numel() for parameter in parameters)
    tensors = f"{name}, {len(shapes)} tensors"
    own = optimizer.move
    for way, move in {"torch": move_by_torch, "triton": own}.items():
        optimizer.move = move
        yield Row("adamw", f"{way}, {tensors}", milliseconds(optimizer.step), n_bytes)
        began = time.perf_counter()
        optimizer.step()
        yield Row("adamw", f"{way}, {tensors}, the host", 1000 * (time.perf_counter() - began))
    names = ("block", "warps", "blocks_in_chunk")
    usual = [getattr(adamw_kernel, one) for one in names]
    cuts = ((512, 4, 8), (1024, 4, 1), (1024, 4, 2), (1024, 4, 4), (1024, 4, 8), (1024, 4, 16))
    for cut in (*cuts, (1024, 8, 4), (2048, 4, 2), (2048, 8, 2), (2048, 8, 8), (4096, 8, 1)):
        for one, value in zip(names, cut, strict=True):
            setattr(adamw_kernel, one, value)
        optimizer._lists.clear()  # and with them the tables of another cut
        block, warps, blocks = cut
        way = f"triton, {name}, block {block}, {warps} warps, {blocks} blocks in a chunk"
        yield Row("adamw", way, milliseconds(optimizer.step), n_bytes)
    for one, value in zip(names, usual, strict=True):
        setattr(adamw_kernel, one, value)


def sum_rows() -> Iterator[Row]:
    """The gradient of a bias: slopes summed over tokens."""
    slopes = torch.randn(65_536, 3072, device=cuda, dtype=torch.bfloat16)
    ones = torch.ones(1, len(slopes), device=cuda, dtype=torch.bfloat16)
    compiled = torch.compile(lambda x: x.sum(0))
    ways: dict[str, Callable[[], Any]] = {
        "sum": lambda: slopes.sum(0),
        "sum in fp32": lambda: slopes.sum(0, dtype=torch.float32),
        "sum, compiled": lambda: compiled(slopes),
        "product with ones": lambda: ones @ slopes,
    }
    for name, work in ways.items():
        yield Row("bias", name, milliseconds(work), slopes.nbytes)


def block_rows() -> Iterator[Row]:
    """What blocks do between their products, of 65,536 tokens."""
    for n_heads, d_head, seq, is_llama in ((12, 64, 1024, False), (6, 128, 2048, True)):
        width, batch = n_heads * d_head, 65_536 // seq
        qkv = torch.randn(batch, seq, 3 * width, device=cuda, dtype=torch.bfloat16)
        rest: list[Any] = [None] * 4
        if is_llama:
            angles = torch.randn(1, 1, seq, d_head // 2, device=cuda)
            rest = [angles.cos().bfloat16(), angles.sin().bfloat16()]
            rest += [torch.ones(d_head, device=cuda), torch.ones(d_head, device=cuda)]
        settings: Any = (*rest, 1e-5, n_heads, n_heads)
        shape = batch, seq, n_heads, d_head
        slopes: list[Any] = [
            torch.randn(shape, device=cuda, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3)
        ]
        kind = "normalised and turned" if is_llama else "with a bias"
        if is_llama:
            took = milliseconds(partial(turn_heads, qkv, *settings))
            yield Row("heads", f"{n_heads} x {d_head}, {kind}", took, 4 / 3 * qkv.nbytes)
        source = qkv if is_llama else None
        usual = block_kernels.tile, block_kernels.n_programs, block_kernels.warps
        cuts = ((1024, 1056, 4), (2048, 1056, 4), (2048, 2112, 4), (2048, 4224, 4))
        for cut in (*cuts, (4096, 1056, 8), (4096, 2112, 4)):
            block_kernels.tile, block_kernels.n_programs, block_kernels.warps = cut
            given = (*slopes, source, *settings, not is_llama)
            took = milliseconds(partial(heads_slope, *given))
            way = f"back, {n_heads} x {d_head}, {kind}, tile {cut[0]}, {cut[1]}, {cut[2]} warps"
            yield Row("heads", way, took, (8 / 3 if is_llama else 2) * qkv.nbytes)
        block_kernels.tile, block_kernels.n_programs, block_kernels.warps = usual
    x = torch.randn(64, 1024, 3072, device=cuda, dtype=torch.bfloat16)
    slope = torch.randn_like(x)
    for columns, programs in ((64, 1056), (128, 1056), (128, 2112), (256, 1056), (512, 1056)):
        usual = block_kernels.columns, block_kernels.n_programs
        block_kernels.columns, block_kernels.n_programs = columns, programs
        took = milliseconds(lambda: gelu_slope(slope, x))
        block_kernels.columns, block_kernels.n_programs = usual
        yield Row("gelu", f"back, {columns} columns, {programs} programs", took, 3 * x.nbytes)


def norm_rows() -> Iterator[Row]:
    """The way back through a norm and the stream beside it, which both have a slope."""
    names = ("tile", "numbers", "n_warps", "ahead")
    usual = [getattr(norm_kernels, name) for name in names]
    of_an_sm = 132  # multiprocessors of an H100: so many times as many warps
    for kind, n_rows, width in (
        ("layernorm", 65_536, 768),
        ("rmsnorm", 65_536, 768),
        ("layernorm", 16_384, 1600),
    ):
        norm = LayerNorm(width, bias=True, epsilon=1e-5)
        norm = norm if kind == "layernorm" else RMSNorm(width, epsilon=1e-5)
        for parameter in norm.to(cuda).parameters():
            torch.nn.init.ones_(parameter)
        x, d_normed, d_stream = (
            torch.randn(1, n_rows, width, device=cuda, dtype=torch.bfloat16) for _ in range(3)
        )
        name, n_bytes = f"back, {kind}, {n_rows} x {width}", 4 * x.nbytes
        took = milliseconds(partial(compiled_slope(norm, x), d_normed, d_stream))
        yield Row("norm", f"{name}, torch, compiled", took, n_bytes)
        is_centred = isinstance(norm, LayerNorm)
        given: Any = (d_normed, d_stream, x, norm.weight, is_centred, is_centred, 1e-5)
        cuts = ((1024, 8, 16, 3), (1024, 8, 24, 3), (1024, 16, 8, 3), (1024, 16, 12, 3))
        cuts += ((1024, 32, 8, 1), (1024, 32, 8, 2), (1024, 32, 8, 3), (1024, 32, 12, 3))
        for cut in (*cuts, (2048, 16, 8, 2), (2048, 16, 12, 3), (2048, 16, 16, 1)):
            for one, value in zip(names, cut, strict=True):
                setattr(norm_kernels, one, value * of_an_sm if one == "n_warps" else value)
            took = milliseconds(partial(norm_slope, *given))
            way = f"tile {cut[0]}, {cut[1]} a thread, {cut[2]} warps on each, {cut[3]} tiles ahead"
            yield Row("norm", f"{name}, {way}", took, n_bytes)
        for one, value in zip(names, usual, strict=True):
            setattr(norm_kernels, one, value)


def compiled_slope(norm: LayerNorm | RMSNorm, x: Tensor) -> Callable[[Tensor, Tensor], Any]:
    """What the compiler makes of the same, of slopes in the normed stream and in the stream."""

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        stream = 1 + x  # so that its slopes are added up in the program
        return stream, norm(stream)

    inputs = [x.detach().requires_grad_(), *norm.parameters()]
    made = torch.compile(both)(inputs[0])
    return lambda d_normed, d_stream: torch.autograd.grad(
        made, inputs, (d_stream, d_normed), retain_graph=True
    )


parts: dict[str, Callable[[], Iterator[Row]]] = {
    "slope": slope_rows,
    "loss": lambda: loss_rows(65_536),
    "product": added_products,
    "attention": attention_rows,
    "update": update_rows,
    "sums": sum_rows,
    "blocks": block_rows,
    "norms": norm_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(parts), default=list(parts))
    arguments = parser.parse_args()
    functorch_config.donated_buffer = False  # what a way back has used it may use again
    machine = describe_machine(cuda)
    bandwidth, product = ceilings()
    print(f"{machine}: {bandwidth / 1e12:.2f} TB/s, {product / 1e12:.0f} TFLOP/s", flush=True)
    print("\n| part | way | ms | of what is there |\n| --- | --- | --- | --- |")
    for name in arguments.only:
        for row in parts[name]():
            told = row.shares(bandwidth, product)
            print(f"| {row.part} | {row.way} | {row.milliseconds:.3f} | {told} |", flush=True)
            if arguments.out:
                with arguments.out.open("a") as file:
                    file.write(json.dumps(vars(row)) + "\n")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
