"""What torch.compile makes of a block, for a step that is followed rather than run.

The block goes through the compiler's own first half: its forward and backward become one graph,
which PyTorch's partitioner divides, deciding what is kept in between. The second half, which writes
kernels, is stood in for by a rule: what lies between matrix products and attention becomes kernels
whose inner results never reach memory.

Source of the partition: PyTorch's `min_cut_rematerialization_partition`.
"""

import operator
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointPolicy
from torch.utils.flop_counter import flop_registry

from modelwright.accounting.trace import program_call
from modelwright.accounting.tracing import Tracer, layout_of, n_shapes, size_of
from modelwright.model.attention import Attention
from modelwright.model.cross_entropy import surprise_and_slope
from modelwright.model.recompute import has_norm, kept
from modelwright.model.transformer import Transformer

aten = torch.ops.aten

views = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.expand.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.slice.Tensor,
    aten.select.int,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
    aten.detach.default,
    aten.alias.default,
    aten.as_strided.default,
}
# The compiler works out an elementwise result once more wherever it is used, rather than write it
# down, while that reads no more than so many tensors. Source: PyTorch's inductor,
# `realize_reads_threshold`.
most_sources = 4
# Their results always reach memory: a kernel ends there.
reductions = {aten.sum.dim_IntList, aten.mean.dim, aten.var_mean.correction, aten.amax.default}


# Blocks of the same shape come to the same program, however deep the model is.
most_programs = 32
known_programs: "OrderedDict[Any, Program]" = OrderedDict()


def compile_for_trace(model: Transformer, tracer: Tracer, *, recompute: str, every: int) -> None:
    """Let what is compiled of a model without numbers pass for it, in place."""
    shape = replace(model.config, n_layers=1)
    for number, block in enumerate(model.blocks):
        kind = recompute if number % every == 0 else "none"
        formats = model.dtype, model.embedding.dtype
        alike = (shape, formats, attention_of(block), ways_of(block), kind)
        block.forward = partial(_run, block, alike, tracer)
    if has_norm(model):
        alike = (shape, model.embedding.dtype, ways_of(model.norm), "none")
        model.norm.forward = partial(_run, model.norm, alike, tracer)
    if model.slope_of is surprise_and_slope:
        model.slope_of = partial(_slope, tracer)


def attention_of(block: nn.Module) -> str:
    """What a block attends with, by name."""
    attend = next(one.attend for one in block.modules() if isinstance(one, Attention))
    return repr((attend.func, attend.args)) if isinstance(attend, partial) else repr(attend)


def ways_of(part: nn.Module) -> tuple[str, ...]:
    """What else a block or norm computes with, by name."""
    ways: list[Any] = []
    for one in part.modules():
        for name in ("multiply", "heads_of", "hidden_units", "beside", "normed"):
            way = getattr(one, name, None)
            ways += [] if way is None else [way.func if isinstance(way, partial) else way]
    return tuple(way.__name__ for way in ways)


def _run(module: nn.Module, alike: tuple[Any, ...], tracer: Tracer, *inputs: Any) -> Tensor:
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]
    parameters = dict(module.named_parameters())
    key = (type(module), *alike, *((x.shape, x.dtype, x.requires_grad) for x in tensors))
    if key not in known_programs:
        with tracer.looking_away():
            known_programs[key] = make_program(module, list(parameters), inputs, alike[-1])
        if len(known_programs) > most_programs:
            known_programs.popitem(last=False)
    return _Compiled.apply(known_programs[key], tracer, *parameters.values(), *tensors)


def make_program(
    module: nn.Module, names: list[str], inputs: tuple[Any, ...], recompute: str
) -> "Program":
    """Divide the forward and backward of a block or norm as the compiler does."""
    from torch._functorch.aot_autograd import aot_export_joint_simple
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table
    from torch.utils._pytree import tree_flatten, tree_unflatten

    leaves, layout = tree_flatten(inputs)
    places = [n for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    parameters = [dict(module.named_parameters())[name] for name in names]
    original = type(module).forward

    def call(*flat: Tensor) -> tuple[Tensor]:
        given = list(leaves)
        for place, tensor in zip(places, flat[len(names) :], strict=True):
            given[place] = tensor
        weights = dict(zip(names, flat, strict=False))
        module.forward = partial(original, module)
        try:
            return (functional_call(module, weights, tree_unflatten(given, layout)),)
        finally:
            del module.forward

    patched = module.__dict__["forward"]
    flat = [*parameters, *(leaves[place] for place in places)]
    flat = [torch.empty_like(x).requires_grad_(x.requires_grad) for x in flat]
    joint: Any = aot_export_joint_simple(
        call, tuple(flat), trace_joint=True, decompositions=select_decomp_table()
    )
    module.forward = patched
    if recompute == "selective":
        _keep_products(joint)
    forward, backward = min_cut_rematerialization_partition(joint, None, num_fwd_outputs=1)
    whole = Schedule(forward, n_results=1)
    again = Schedule(_without_result(forward), n_results=0) if recompute == "blocks" else None
    slopes = Schedule(backward, n_results=len(flat))
    return Program(whole, slopes, again)


def _without_result(forward: fx.GraphModule) -> fx.GraphModule:
    """The part of a forward graph that makes what the backward one needs, in place."""
    output = next(iter(reversed(forward.graph.nodes)))
    _, *saved = output.args[0]
    output.args = (tuple(saved),)
    forward.graph.eliminate_dead_code()
    return forward


def _keep_products(joint: fx.GraphModule) -> None:
    """Tell the partitioner what selectively recomputing blocks keep."""
    for node in joint.graph.nodes:
        if node.op != "call_function" or node.meta.get("partitioner_tag") == "is_backward":
            continue
        from_attention = is_view(node) and node.args[0].target in kept
        if node.target in kept and isinstance(node.meta["val"], tuple | list):
            continue  # its results are marked one by one
        stays = node.target in kept or from_attention
        node.meta["recompute"] = (
            CheckpointPolicy.MUST_SAVE if stays else CheckpointPolicy.PREFER_RECOMPUTE
        )
        node.meta["ac_graph_id"] = 0


@dataclass(frozen=True)
class Program:
    """A block or norm as the compiler has divided it.

    Attributes:
        again: what a block that forgets computes once more on its way back; None keeps it.
    """

    forward: "Schedule"
    backward: "Schedule"
    again: "Schedule | None"


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: Program, tracer: Tracer, *inputs: Tensor) -> Tensor:
        out, *saved = program.forward.follow(list(inputs), tracer)
        ctx.program, ctx.tracer = program, tracer
        ctx.saved = saved if program.again is None else list(inputs)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, ctx.saved = ctx.saved, None
        if ctx.program.again is not None:
            saved = ctx.program.again.follow(saved, ctx.tracer)
        inputs = [*saved, *gradients]
        del saved
        return None, None, *ctx.program.backward.follow(inputs, ctx.tracer)


@dataclass
class Step:
    """One kernel, or one call of a library: what it makes, and what is not needed after it."""

    name: str
    made: list[tuple[fx.Node, Any, int]]
    n_flops: int = 0
    n_read: int = 0
    n_written: int = 0
    dtype: torch.dtype | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    layout: str = ""
    freed: list[fx.Node] = field(default_factory=list)


class Schedule:
    """The kernels of a graph in order, and how long each result stays."""

    def __init__(self, graph: fx.GraphModule, *, n_results: int) -> None:
        """Args:
        n_results: so many of the first outputs are tensors to PyTorch; of the others only their
            memory is known.
        """
        self.nodes = list(graph.graph.nodes)
        self.inputs = [node for node in self.nodes if node.op == "placeholder"]
        self.outputs = [
            node if isinstance(node, fx.Node) else None
            for node in tree_leaves(self.nodes[-1].args, is_leaf=lambda x: x is None)
        ]
        self.home = {node: _home(node) for node in self.nodes}
        self.results = {self.home[out] for out in self.outputs[:n_results] if out is not None}
        self.stored: set[fx.Node] = set()
        self._store()
        self.steps = self._steps()

    def _store(self) -> None:
        """Find the nodes whose results reach memory."""
        stage, now = {}, 0
        for node in self.nodes:
            if is_library_call(node):
                now += 1
            stage[node] = now
        self.stored |= {self.home[out] for out in self.outputs if out is not None}
        for node in self.nodes:
            if node.op == "placeholder" or is_library_call(node) or node.target in reductions:
                self.stored.add(node)
            if is_library_call(node):
                self.stored |= {self.home[source] for source in node.all_input_nodes}
        last_stage: dict[fx.Node, int] = {}
        for node in self.nodes:
            if node.op == "call_function" and not is_view(node):
                for source in node.all_input_nodes:
                    last_stage[self.home[source]] = stage[node]
        for node, last in last_stage.items():
            # Used again after a matrix product: worked out anew, unless from too much.
            is_kept = last > stage[node] and len(self._sources(node)) > most_sources
            if is_kept and not _is_cheap(node):
                self.stored.add(node)

    def _steps(self) -> list[Step]:
        steps: list[Step] = []
        last_use: dict[fx.Node, int] = {}
        read_already: set[fx.Node] = set()
        for node in self.nodes:
            if node.op != "call_function" or node not in self.stored or is_view(node):
                continue
            sources = self._sources(node)
            made = [
                (node, value, _spanned_bytes(value))
                for value in tree_leaves(node.meta["val"])
                if isinstance(value, Tensor)
            ]
            is_call = is_library_call(node)
            if is_call:
                read_already = set()
            new = sources - read_already
            count = flop_registry.get(node.target._overloadpacket) if is_call else None
            values = fx.map_arg(node.args, lambda n: n.meta["val"])
            first = made[0][1] if made else None
            given = [x for x in tree_leaves(values) if isinstance(x, Tensor)] if is_call else []
            steps.append(
                Step(
                    node.target.__name__.removesuffix(".default") if is_call else "fused",
                    made,
                    count(*values, **node.kwargs, out_val=node.meta["val"]) if count else 0,
                    sum(_bytes(source) for source in new),
                    sum(size_of(value) for _, value, _ in made),
                    first.dtype if first is not None else None,
                    tuple(tuple(x.shape) for x in given[:n_shapes]),
                    "".join(map(layout_of, given[:n_shapes])),
                )
            )
            if not is_call:
                read_already |= sources
            for source in sources:
                last_use[source] = len(steps) - 1
        kept_on = {self.home[out] for out in self.outputs if out is not None}
        for node, number in last_use.items():
            if node not in kept_on:
                steps[number].freed.append(node)
        return steps

    def _sources(self, node: fx.Node) -> set[fx.Node]:
        """The stored nodes that the kernel which makes a node reads."""
        found: set[fx.Node] = set()
        waiting = [self.home[source] for source in node.all_input_nodes]
        while waiting:
            source = waiting.pop()
            if source in self.stored:
                found.add(source)
            else:
                waiting += [self.home[n] for n in source.all_input_nodes]
        return found

    def follow(self, inputs: list[Any], tracer: Tracer) -> list[Any]:
        """Make and let go of memory as the kernels would; the list of inputs is emptied."""
        there: dict[fx.Node, list[Any]] = {
            node: [tensor] for node, tensor in zip(self.inputs, inputs, strict=True)
        }
        inputs.clear()
        tracer.saw(program_call)
        for step in self.steps:
            for node, value, n_bytes in step.made:
                if node in self.results:
                    with tracer.naming(step.name):
                        made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
                else:
                    made = tracer.give_out(n_bytes, tuple(value.shape), value.dtype, step.name)
                there.setdefault(node, []).append(made)
            tracer.saw(
                step.name,
                n_flops=step.n_flops,
                n_read=step.n_read,
                n_written=step.n_written,
                dtype=step.dtype,
                shapes=step.shapes,
                layout=step.layout,
                in_program=True,
            )
            for node in step.freed:
                del there[node]
        return [None if out is None else self._result(out, there) for out in self.outputs]

    def _result(self, out: fx.Node, there: dict[fx.Node, list[Any]]) -> Any:
        home, value = self.home[out], out.meta["val"]
        held = there[home][_place(out)] if len(there[home]) > 1 else there[home][0]
        if not isinstance(held, Tensor) or held.shape == value.shape:
            return held
        return held.as_strided(value.shape, value.stride(), 0)


def is_view(node: fx.Node) -> bool:
    """Whether a node is another look at its first input, or one of several results."""
    return node.op == "call_function" and (node.target in views or _takes_one(node))


def is_library_call(node: fx.Node) -> bool:
    """Whether a node is a matrix product or attention, for which there is a library, or our own."""
    packet = getattr(node.target, "_overloadpacket", None)
    is_ours = getattr(node.target, "namespace", "") == "modelwright"
    return (
        is_ours or packet in flop_registry or node.target is aten.embedding_dense_backward.default
    )


def _takes_one(node: fx.Node) -> bool:
    """Whether a node is one of several results of another."""
    return node.target is operator.getitem


def _source(node: fx.Node) -> fx.Node:
    """What a view looks at."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def _home(node: fx.Node) -> fx.Node:
    """The node whose memory a view looks at."""
    while is_view(node):
        node = _source(node)
    return node


def _place(node: fx.Node) -> int:
    """Which of several results of its home a node is."""
    while is_view(node):
        source = _source(node)
        if _takes_one(node) and not is_view(source):
            tensors = [n for n, x in enumerate(source.meta["val"]) if isinstance(x, Tensor)]
            return tensors.index(node.args[1])  # pyright: ignore[reportArgumentType]
        node = source
    return 0


def _is_cheap(node: fx.Node) -> bool:
    return node.op == "call_function" and all(
        source.op == "placeholder" for source in node.all_input_nodes
    )


def _spanned_bytes(tensor: Tensor) -> int:
    """What a tensor takes of memory with such strides."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((length - 1) * stride for length, stride in steps)
    return (last + 1) * tensor.element_size() if tensor.numel() else 0


def _bytes(node: fx.Node) -> int:
    return sum(size_of(x) for x in tree_leaves(node.meta["val"]) if isinstance(x, Tensor))


def _slope(
    tracer: Tracer, logits: Tensor, targets: Tensor, n_vocab: int, scale: float
) -> tuple[Tensor, Tensor]:
    """The memory of the compiled loss: the chances in fp32, in which the targets are marked."""
    wide = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
    tracer.saw(program_call)
    fused = partial(tracer.saw, "fused", dtype=wide.dtype, in_program=True)
    fused(n_read=2 * size_of(logits), n_written=size_of(wide))
    slope = wide if wide.dtype == logits.dtype else torch.empty_like(logits)
    fused(n_read=size_of(wide), n_written=size_of(slope))
    return wide.new_empty(()), slope
