"""What a computation allocates and does, followed operation by operation without carrying it out.

Under PyTorch's fake tensors nothing is computed and nothing allocated, but every operation passes
by here with the shapes that it would have. The tracer follows each storage from the operation that
makes it to the moment its last tensor is gone, so the peak is that of the very code it watches.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import _get_sequence_nr  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from modelwright.accounting.trace import Held, Operation, Trace, wait

aten = torch.ops.aten

# They only give out memory or another look at it: no kernel runs.
without_kernel = {
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten.detach.default,
    aten.alias.default,
    aten._unsafe_view.default,
    aten.lift_fresh.default,
}
# PyTorch counts the operation, not its edition that writes to an argument.
counted_as = {aten.addmm_: aten.addmm, aten.baddbmm_: aten.baddbmm}
n_shapes = 3  # of so many inputs an operation's shapes are kept
# They write all of their first argument and read nothing of it.
write_only = {aten.zero_.default, aten.fill_.Scalar, aten.copy_.default}

Scratch = Callable[[Any, Sequence[Any]], int]


def no_scratch(_operation: Any, _inputs: Sequence[Any]) -> int:
    """For kernels that need no memory but their results."""
    return 0


@dataclass
class Tracer:
    """Watches what runs inside `with tracer.watching(model):`.

    Attributes:
        rounding: the allocator gives out multiples of so many bytes: 512 on a GPU, 1 on a CPU.
        scratch: bytes that the kernel of an operation takes for itself, given its inputs.
        copies: how many times what happens now happens at once, each in memory of its own.
    """

    rounding: int = 1
    scratch: Scratch = no_scratch
    copies: int = 1
    phase: str = "forward"
    held_bytes: int = 0
    operations: list[Operation] = field(default_factory=list)
    storages: list[Held] = field(default_factory=list)
    _known: dict[int, tuple[Held, Any]] = field(default_factory=dict)
    _stack: list[str] = field(default_factory=list)
    _module_of_node: dict[int, str] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _sums: list[tuple[int, Held]] = field(default_factory=list)
    _is_blind: bool = False
    _maker: str = ""
    _is_finished: bool = False

    def hold(self, tensors: Iterable[Tensor], kind: str, *, born: int = -1) -> None:
        """Say what some memory is held for; what was not there before, is there from now on."""
        for tensor in tensors:
            known = self._known.get(tensor.untyped_storage()._cdata)
            if known is None:
                self._follow(tensor, "", born=born).kind = kind
            else:
                known[0].kind = kind

    def hold_bytes(self, n_bytes: int, kind: str) -> None:
        """Count memory that no tensor here stands for, from the beginning to the end."""
        self.storages.append(Held(n_bytes, (), torch.uint8, -1, "", "", "before", kind))
        self.held_bytes += n_bytes

    def keep_one_copy(self, tensors: Iterable[Tensor]) -> None:
        """Of what happened several times at once, let go of all but one from now on."""
        for tensor in tensors:
            held, alive = self._known[tensor.untyped_storage()._cdata]
            single = Held(**{name: getattr(held, name) for name in Held.__slots__})
            single.n_bytes = held.n_bytes // self.copies
            single.born = len(self.operations)
            self._gone(held)
            self.storages.append(single)
            self.held_bytes += single.n_bytes
            self._known[tensor.untyped_storage()._cdata] = (single, alive)
            alive.held = single

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator["Tracer"]:
        """Follow what runs in the block; the model is for the names of its modules."""
        self._names = {id(module): name for name, module in model.named_modules() if name}
        entered = register_module_forward_pre_hook(self._enter)
        left = register_module_forward_hook(self._leave, always_call=True)
        try:
            with _Watch(self):
                yield self
        finally:
            entered.remove()
            left.remove()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Name what happens in the block."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    @contextmanager
    def naming(self, operation: str) -> Iterator[None]:
        """Say what makes the memory that is given out in the block."""
        self._maker = operation
        try:
            yield
        finally:
            self._maker = ""

    def give_out(
        self, n_bytes: int, shape: tuple[int, ...], dtype: torch.dtype, operation: str
    ) -> "Memory":
        """Memory for numbers that nobody asks for: there while what is returned is held.

        Args:
            operation: what makes it.
        """
        n_bytes = -(-n_bytes // self.rounding) * self.rounding * self.copies
        held = Held(
            n_bytes,
            shape,
            dtype,
            len(self.operations),
            self._module(),
            operation,
            self._present_phase(),
        )
        self.storages.append(held)
        self.held_bytes += n_bytes
        return Memory(self, held)

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Follow nothing in the block, whose tensors do not outlive it."""
        self._is_blind = True
        try:
            yield
        finally:
            self._is_blind = False

    def finish(self) -> Trace:
        """What was seen, once all that outlives it has its kind."""
        for held in self.storages:
            held.kind = held.kind or self._presumed_kind(held)
        for number, summand in self._sums:
            if summand.died == number + 1:
                self.operations[number].held -= summand.n_bytes
                summand.died = number
        self._sums.clear()
        self._known.clear()
        self._is_finished = True
        return Trace(self.operations, self.storages)

    def _presumed_kind(self, held: Held) -> str:
        """What memory is for that nobody has spoken of: kept for the way back, or passing."""
        if held.phase == "loss":
            return "loss"
        if held.phase != "forward":
            return "temporaries"
        last = len(self.operations) - 1 if held.died is None else held.died
        end = self.operations[min(last, len(self.operations) - 1)].phase
        return "temporaries" if end == "forward" else "activations"

    def saw(
        self,
        name: str,
        *,
        n_flops: int = 0,
        n_read: int = 0,
        n_written: int = 0,
        dtype: torch.dtype | None = None,
        scratch: int = 0,
        shapes: tuple[tuple[int, ...], ...] = (),
        layout: str = "",
        in_program: bool = False,
    ) -> None:
        """Put an operation on record after its results are."""
        self.operations.append(
            Operation(
                name,
                self._module(),
                self._present_phase(),
                dtype,
                n_flops * self.copies,
                n_read * self.copies,
                n_written * self.copies,
                self.held_bytes,
                scratch * self.copies,
                shapes,
                layout,
                in_program,
            )
        )

    def saw_call(self, operation: Any, inputs: Sequence[Any], named: dict[str, Any], out: Any):
        """Put a call of one of PyTorch's operations on record."""
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        name = operation.__name__.removesuffix(".default")
        fresh = 0
        for tensor in results:
            if tensor.untyped_storage()._cdata not in self._known:
                self._follow(tensor, name, born=len(self.operations))
                fresh += size_of(tensor)
        tensors = [x for x in tree_leaves((inputs, named)) if isinstance(x, Tensor)]
        if operation in without_kernel or operation.is_view or not (tensors or results):
            return
        changed = sum(size_of(x) for x in _changed(operation, inputs, named))
        read = sum(size_of(x) for x in tensors)
        if operation in write_only:
            read -= size_of(inputs[0])
        elif operation is aten.embedding.default:
            read = fresh + size_of(inputs[1])
        packet = operation._overloadpacket
        if operation is aten.add.Tensor and self._adds_gradients(tensors):
            summand, _ = self._known[tensors[0].untyped_storage()._cdata]
            self._sums.append((len(self.operations), summand))
        count = flop_registry.get(counted_as.get(packet, packet))
        self.saw(
            name,
            n_flops=count(*inputs, **named, out_val=out) if count else 0,
            n_read=read,
            n_written=fresh + changed,
            dtype=tensors[0].dtype if tensors else None,
            scratch=self.scratch(operation, inputs),
            shapes=tuple(tuple(x.shape) for x in tensors[:n_shapes]),
            layout="".join(map(layout_of, tensors[:n_shapes])),
        )

    def _adds_gradients(self, tensors: list[Tensor]) -> bool:
        """Whether two gradients of one tensor are added up on its way back.

        PyTorch adds to the first one in place where nobody else needs it, but never with tensors
        that hold no numbers. That nobody does is seen from its end.
        """
        return (
            torch._C._current_autograd_node() is not None
            and not self._stack
            and len(tensors) == 2
            and tensors[0].shape == tensors[1].shape
        )

    def _follow(self, tensor: Tensor, operation: str, *, born: int) -> Held:
        storage = tensor.untyped_storage()
        n_bytes = -(-storage.nbytes() // self.rounding) * self.rounding * self.copies
        held = Held(
            n_bytes,
            tuple(tensor.shape),
            tensor.dtype,
            born,
            self._module(),
            self._maker or operation,
            "before" if born < 0 else self._present_phase(),
        )
        alive = _Alive(self, held, storage._cdata)
        alive.reference = weakref.ref(storage, alive)
        self._known[storage._cdata] = (held, alive)
        self.storages.append(held)
        self.held_bytes += held.n_bytes
        return held

    def _gone(self, held: Held) -> None:
        if self._is_finished:
            return
        held.died = len(self.operations)
        self.held_bytes -= held.n_bytes

    def _module(self) -> str:
        node = torch._C._current_autograd_node()
        if self._stack:
            here = self._stack[-1]
        elif node is not None:
            here = self._module_of_node.get(node._sequence_nr(), "")
        else:
            here = ""
        if node is None:
            self._module_of_node[_get_sequence_nr() - 1] = here
        return here

    def _present_phase(self) -> str:
        if torch._C._current_autograd_node() is None:
            return self.phase
        self.phase = "clip"  # which is what follows
        return "backward"

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        name = self._names.get(id(module))
        if name is not None:
            self._stack.append(name)

    def _leave(self, module: nn.Module, _inputs: Any, _output: Any) -> None:
        if id(module) in self._names:
            self._stack.pop()


class Memory:
    """Memory that a tracer counts until the last reference to this is gone."""

    __slots__ = ("_held", "_tracer")

    def __init__(self, tracer: Tracer, held: Held) -> None:
        self._tracer, self._held = tracer, held

    def __del__(self) -> None:
        self._tracer._gone(self._held)


@dataclass(eq=False)
class _Alive:
    """Notices when a storage is gone."""

    tracer: Tracer
    held: Held
    key: int
    reference: Any = None

    def __call__(self, _: Any) -> None:
        if self.tracer._known.get(self.key, (None, None))[1] is self:
            del self.tracer._known[self.key]
        self.tracer._gone(self.held)


class _Watch(TorchDispatchMode):
    """Hands every operation to a tracer, after whoever computes it."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # such as the question on which device a tensor is
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            if not self.tracer._is_blind:
                self.tracer.saw(wait)
            return 1 if not args[0].dtype.is_floating_point else 1.0  # there is no number to read
        out = func(*args, **kwargs)
        if not self.tracer._is_blind:
            self.tracer.saw_call(func, args, kwargs, out)
        return out


def layout_of(tensor: Tensor) -> str:
    """Whether the rows of a matrix, or of each of several, lie in one piece, or its columns."""
    return "t" if tensor.ndim > 1 and tensor.stride(-1) != 1 else "n"


def size_of(tensor: Tensor) -> int:
    """The bytes of a tensor's numbers; those that stand for several are there once."""
    n_numbers = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        n_numbers *= length if stride else 1
    return n_numbers * tensor.element_size()


def _changed(operation: Any, inputs: Sequence[Any], named: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation writes to."""
    written: list[Tensor] = []
    for place, argument in enumerate(operation._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = inputs[place] if place < len(inputs) else named.get(argument.name)
        written += [x for x in tree_leaves(value) if isinstance(x, Tensor)]
    return written
