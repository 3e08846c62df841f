"""AdamW's update of all tensors of a group by one kernel of our own, for an NVIDIA GPU.

PyTorch's kernel, told a number by which gradients are divided, writes the divided ones back to
memory. Here four numbers are read for each parameter and three are written. The kernel is told
where its tensors are by a table on the device, of which only the gradients' row changes from step
to step. It is written in Triton, which is loaded when it first runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from modelwright.model.gpu_kernels import suits_gpu_kernel

# What a benchmark may vary: they change the speed and no bit of a result.
block = 2048  # numbers at a time; a power of two
warps = 8  # groups of 32 threads that share a block
blocks_in_chunk = 2  # that one program goes through, all of one tensor

alignment = 16  # bytes, as many as a thread loads at once
gradient_row = 1  # of the table


@dataclass(frozen=True, kw_only=True)
class AdamWNumbers:
    """What a step of AdamW depends on besides its tensors.

    Attributes:
        n_steps: this one included; in fp32 and on the device.
        divisor: on the device in fp32, a number by which gradients are divided.
        void: on the device in fp32; 1 keeps everything as it is.
    """

    n_steps: Tensor
    learning_rate: float | Tensor
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    divisor: Tensor | None = None
    void: Tensor | None = None


def table_of(
    parameters: Sequence[Tensor], means: Sequence[Tensor], squares: Sequence[Tensor]
) -> "AddressTable | None":
    """What tells the kernel where some parameters and their two means are.

    Returns:
        None, where they are to be left to PyTorch: the device is no GPU that Triton knows, or a
        tensor is in another dtype than fp32 or scattered in memory.
    """
    device = parameters[0].device
    tensors = [*parameters, *means, *squares]
    suits = suits_gpu_kernel(device) and all(
        type(tensor) in (Tensor, nn.Parameter) and tensor.device == device for tensor in tensors
    )
    return AddressTable(parameters, means, squares) if suits and are_plain(tensors) else None


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether the kernel can go through tensors from their first number to the last."""
    return all(
        tensor.dtype is torch.float32
        and tensor.is_contiguous()
        and tensor.data_ptr() % alignment == 0
        for tensor in tensors
    )


class AddressTable:
    """Where the kernel finds the tensors of a group, and how it divides them into chunks.

    A CUDA graph that was recorded while the table was in use reads its memory, and that of the
    addresses that came with the recording, at every replay; both must be there that long.

    Attributes:
        rows: [6, tensors] in int64 on the device: the addresses of parameters, gradients, means
            and means of squares, the length of each tensor, and the number of its first chunk.
        tensor_of: [chunks] in int32 on the device: the number of the tensor that it is part of.
        chunk: numbers in each chunk but a tensor's last one.
        written: the parameters and both of their means.
        recorded: the gradients' addresses that graphs read, on the host.
    """

    def __init__(
        self, parameters: Sequence[Tensor], means: Sequence[Tensor], squares: Sequence[Tensor]
    ) -> None:
        self.device = parameters[0].device
        self.written = [*parameters, *means, *squares]
        self._written_at = [tensor.data_ptr() for tensor in self.written]
        self.chunk = block * blocks_in_chunk
        lengths = torch.tensor([parameter.numel() for parameter in parameters])
        n_chunks = (lengths + self.chunk - 1) // self.chunk
        rows = [
            addresses_of(parameters),
            torch.zeros_like(lengths),  # until gradients are told
            addresses_of(means),
            addresses_of(squares),
            lengths,
            n_chunks.cumsum(0) - n_chunks,
        ]
        numbers = torch.arange(len(parameters), dtype=torch.int32)
        self.rows = self._brought(torch.stack(rows))
        self.tensor_of = self._brought(numbers.repeat_interleave(n_chunks))
        self.recorded: list[Tensor] = []
        self._spare: Tensor | None = self._on_host(lengths)

    def is_current(self) -> bool:
        """Whether its tensors have not been given other memory since."""
        return self._written_at == [tensor.data_ptr() for tensor in self.written]

    def tell_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Have the device told where this step's gradients are, without waiting for it.

        The host's memory that it reads is given to nobody else before it has; what a recording
        reads, never. That is set aside before, since a GPU gives out none while it records.
        """
        addresses = addresses_of(gradients)
        if is_recording(self.device):
            staged, self._spare = self._spare, None
            staged = self._on_host(addresses) if staged is None else staged.copy_(addresses)
            self.recorded.append(staged)
        else:
            staged = self._on_host(addresses)
            if self._spare is None:
                self._spare = self._on_host(addresses)
        self.rows[gradient_row].copy_(staged, non_blocking=True)

    def _on_host(self, numbers: Tensor) -> Tensor:
        """A copy in memory that a GPU reads by itself."""
        staged = torch.empty_like(numbers, pin_memory=self.device.type == "cuda")
        return staged.copy_(numbers)

    def _brought(self, numbers: Tensor) -> Tensor:
        return self._on_host(numbers).to(self.device, non_blocking=True)


def addresses_of(tensors: Sequence[Tensor]) -> Tensor:
    """[tensors] in int64, on the host."""
    return torch.tensor([tensor.data_ptr() for tensor in tensors], dtype=torch.int64)


def is_recording(device: torch.device) -> bool:
    """Whether what is asked of a device becomes part of a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def launch(table: AddressTable, numbers: AdamWNumbers) -> None:
    """Start the kernel, and do not wait for it; each program takes one chunk."""
    torch.autograd.graph.increment_version(table.written)
    n_chunks = len(table.tensor_of)
    if n_chunks == 0:
        return
    rate = numbers.learning_rate
    if not isinstance(rate, Tensor):
        # One kernel serves both: while a graph is recorded there may be no other made.
        rate = torch.full((), rate, dtype=torch.float32, device=table.device)
    beta1, beta2 = numbers.betas
    with torch.cuda.device_of(table.rows):
        _kernel()[(n_chunks,)](
            table.rows, table.tensor_of, table.rows.shape[1], numbers.n_steps, rate,
            numbers.divisor, numbers.void, float(numbers.weight_decay),
            share1=1 - beta1, share2=1 - beta2, log1=_logarithm(beta1), log2=_logarithm(beta2),
            epsilon=numbers.epsilon, chunk=table.chunk, block=block, num_warps=warps,
        )  # fmt: skip


def _logarithm(beta: float) -> float:
    return math.log(beta) if beta else -math.inf


@cache
def _kernel() -> Any:
    import triton  # pyright: ignore[reportMissingImports]
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    scalars = ["n_steps", "learning_rate", "divisor", "void"]

    @triton.jit(do_not_specialize=["n_tensors"], do_not_specialize_on_alignment=scalars)
    def move_chunk(
        rows, tensor_of, n_tensors, n_steps, learning_rate, divisor, void, weight_decay,
        share1: tl.constexpr, share2: tl.constexpr, log1: tl.constexpr, log2: tl.constexpr,
        epsilon: tl.constexpr, chunk: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip
        """Change one chunk of a tensor of a table; `share1` is one less beta1, `log1` its log.

        What is the same for all numbers is computed in fp64 and rounded once.

        Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2,
        with the corrections of both means moved into the step, as PyTorch does it.
        """
        if void is not None and tl.load(void) == 1:
            return
        number = tl.program_id(0)
        row = rows + tl.load(tensor_of + number)
        begin = (number - tl.load(row + 5 * n_tensors)) * chunk
        n_here = tl.minimum(tl.load(row + 4 * n_tensors) - begin, chunk).to(tl.int32)
        to_numbers = tl.pointer_type(tl.float32)
        parameter = tl.multiple_of(tl.load(row).to(to_numbers), 16) + begin
        gradient = tl.multiple_of(tl.load(row + n_tensors).to(to_numbers), 16) + begin
        mean = tl.multiple_of(tl.load(row + 2 * n_tensors).to(to_numbers), 16) + begin
        square = tl.multiple_of(tl.load(row + 3 * n_tensors).to(to_numbers), 16) + begin
        by = 1.0 if divisor is None else tl.load(divisor)
        count = tl.load(n_steps).to(tl.float64)
        rate = tl.load(learning_rate).to(tl.float64)
        lost = (rate * weight_decay).to(tl.float32)
        step = (rate / (1 - tl.exp(count * log1))).to(tl.float32)
        correction = (1 / tl.sqrt(1 - tl.exp(count * log2))).to(tl.float32)
        for first in range(0, chunk, block):
            at = first + tl.arange(0, block)
            # Numbers are loaded four at a time only where none has to be left out.
            for is_part in tl.static_range(2):
                is_whole = first + block <= n_here
                is_there = at < n_here if is_part else None
                if (first < n_here) & (is_whole != is_part):
                    p = tl.load(parameter + at, mask=is_there)
                    g = tl.load(gradient + at, mask=is_there)
                    m = tl.load(mean + at, mask=is_there)
                    v = tl.load(square + at, mask=is_there)
                    g = g if divisor is None else tl.div_rn(g, by)
                    p = tl.fma(p, -lost, p)
                    # Times one less beta: what fp32 loses of a beta counts more if it is near 1.
                    m = tl.fma(g, share1, tl.fma(m, -share1, m))
                    v = tl.fma(g * share2, g, tl.fma(v, -share2, v))
                    p -= tl.div_rn(m * step, tl.fma(tl.sqrt_rn(v), correction, epsilon))
                    tl.store(parameter + at, p, mask=is_there)
                    tl.store(mean + at, m, mask=is_there)
                    tl.store(square + at, v, mask=is_there)

    return move_chunk
