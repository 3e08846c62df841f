"""Who takes part in `train_cpu.py`: each is a process that takes an update whenever it is told to.

    train_cpu_contenders.py CONTENDER SETTING=VALUE ...

Ours is what `modelwright train` runs: the same assembly, the same step, batches from the loader.
The others are a Hugging Face GPT-2 in the usual loop, with batches that are in memory already.
After warming up, a contender writes a line of JSON about itself; then each line that it reads is
answered by one with what it measured. Everything else goes to standard error.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from modelwright.runtime.threads import wait_politely

if __name__ == "__main__" and sys.argv[1].startswith("ours"):
    wait_politely()  # as the command line does; the others run as a plain script would

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from modelwright.accounting.hardware import measured_peak
from modelwright.config.loading import load_settings
from modelwright.data.loader import Batch, not_a_target
from modelwright.model.config import ModelConfig
from modelwright.model.loss import next_token_loss
from modelwright.runtime.device import choose_precision
from modelwright.training.assembly import fresh_state, make_loader, prepare
from modelwright.training.attempt import TrainingState, take_step
from modelwright.training.config import RunConfig
from modelwright.training.step import portions

N_WARM_UP = 8  # updates of ours; theirs have more, in finding the best portions
N_TRIES = 5
N_BATCHES = 16
SMALL_PORTIONS = (8, 4, 2)
TOLERANCE = 1e-4  # fp32 sums in another order

Facts = dict[str, Any]
Turn = Callable[[], float]  # seconds of an update
Contender = tuple[Facts, Turn]
cpu = torch.device("cpu")

outer_names = {"embedding": "wte", "positions": "wpe", "norm": "ln_f", "unembedding": "wte"}
inner_names = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}


# The contenders


@contextmanager
def ours(config: RunConfig) -> Iterator[Contender]:
    """A run of ours, put together as the trainer does it."""
    prepared = prepare(config)
    state = fresh_state(prepared)
    with make_loader(prepared) as loader:

        def turn() -> float:
            return timed(partial(take_step, state, config, loader))

        warm = [turn() for _ in range(N_WARM_UP)][-N_TRIES:]
        facts = {"portions": portions_of(state), "attention": prepared.attention}
        yield facts | {"tried": {state.micro_batch: statistics.median(warm)}}, turn


def portions_of(state: TrainingState) -> str:
    """What goes through the model at once."""
    n_lanes = state.lanes.n_lanes
    return (
        f"{state.micro_batch} in each of {n_lanes} lanes" if n_lanes > 1 else f"{state.micro_batch}"
    )


@contextmanager
def hugging_face(config: RunConfig, *, is_compiled: bool) -> Iterator[Contender]:
    """GPT-2 of the same size in a plain loop, with the portions that are best for it here."""
    model = their_model(config.model)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.schedule.peak_lr,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
    )
    # Each size of portion gets a program of its own, as if it were the only one.
    forward = torch.compile(model, dynamic=False) if is_compiled else model
    batches = [random_ids(config, seed) for seed in range(N_BATCHES)]
    n_done = 0

    def update(portion: int) -> None:
        nonlocal n_done
        ids = batches[n_done % N_BATCHES]
        n_done += 1
        for part in ids.split(portion):
            with autocast(config):
                loss = forward(input_ids=part, labels=part).loss * (len(part) / len(ids))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    taken = seconds_of_portions(config.batch_size, update)
    best = min(taken, key=lambda portion: taken[portion])
    yield {"portions": str(best), "tried": taken}, partial(timed, partial(update, best))


def seconds_of_portions(batch_size: int, update: Callable[[int], None]) -> dict[int, float]:
    """The median time of an update with each size of portion; they take turns."""
    sizes = sorted({batch_size, *(n for n in SMALL_PORTIONS if n < batch_size)}, reverse=True)
    for portion in sizes:
        update(portion)
        update(portion)  # the first may have been a compilation
    taken: dict[int, list[float]] = {portion: [] for portion in sizes}
    for _ in range(N_TRIES):
        for portion in sizes:
            taken[portion].append(timed(partial(update, portion)))
    return {portion: statistics.median(seconds) for portion, seconds in taken.items()}


@contextmanager
def peak(config: RunConfig) -> Iterator[Contender]:
    """Nothing but matrix products; a turn measures FLOPs per second."""
    precision = choose_precision(config.training.precision, cpu)

    def turn() -> float:
        measured_peak.cache_clear()
        return measured_peak(cpu, precision).flops_per_second

    turn()
    yield {}, turn


def timed(call: Callable[[], object]) -> float:
    """How many seconds a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# Whether they compute the same


@contextmanager
def check(config: RunConfig) -> Iterator[Contender]:
    """Compare loss and gradient of both models with the same weights; a turn does nothing.

    Raises:
        ValueError: if they differ in fp32 by more than rounding.
    """
    prepared = prepare(config)
    state = fresh_state(prepared)
    theirs = their_model(prepared.model.config)
    with torch.no_grad():
        parameters = dict(theirs.named_parameters())
        for name, weight in renamed(dict(prepared.model.named_parameters())).items():
            parameters[name].copy_(weight)
    ids = random_ids(config, seed=0)
    exact_loss, exact = their_gradient(theirs, ids, nullcontext())
    loss, found = our_gradient(state, ids)
    their_loss, their_found = their_gradient(theirs, ids, autocast(config))
    apart = {name: relative(found[name], gradient) for name, gradient in exact.items()}
    apart["the loss"] = abs(loss - exact_loss) / exact_loss
    worst = max(apart, key=lambda name: apart[name])
    is_exact = choose_precision(config.training.precision, cpu) == "fp32"
    if is_exact and not apart[worst] <= TOLERANCE:
        raise ValueError(
            f"{worst} differs by {apart[worst]:.1e} of its size, so the two models are not the "
            "same; with --set, change only the sizes of the model"
        )
    names = list(exact)
    whole, ours_whole, theirs_whole = (
        torch.cat([gradient[name].flatten() for name in names])
        for gradient in (exact, found, their_found)
    )
    facts = {
        "loss": [exact_loss, loss, their_loss],
        "gradient_error": [relative(ours_whole, whole), relative(theirs_whole, whole)],
        "worst": apart[worst],
    }
    yield facts, lambda: 0.0


def our_gradient(state: TrainingState, ids: Tensor) -> tuple[float, dict[str, Tensor]]:
    """The mean loss and its gradient under their names, in portions and lanes as in training."""
    targets = ids.roll(-1, 1)
    targets[:, -1] = not_a_target  # they have none there
    batch = Batch(ids, targets, torch.arange(len(ids)).numpy())
    n_targets = int((targets != not_a_target).sum())

    def loss_of(_: int, part: Batch) -> Tensor:
        return next_token_loss(state.model, part.inputs, part.targets, scale=1 / n_targets)

    parts = list(portions(batch, state.micro_batch))
    loss = state.lanes.accumulate(state.model, parts, loss_of).item()
    return loss, renamed(gradients_of(state.model))


def their_gradient(model: Any, ids: Tensor, context: Any) -> tuple[float, dict[str, Tensor]]:
    """The mean loss and its gradient."""
    model.zero_grad()
    with context:
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.item(), gradients_of(model)


def gradients_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """The gradient of each parameter, by its name."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def renamed(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights or gradients under their names, with matrices as their linear layers hold them."""
    found: dict[str, Tensor] = {}
    for path, tensor in ours.items():
        owner, _, kind = path.rpartition(".")
        if owner.startswith("blocks."):
            _, layer, part = owner.split(".", 2)
            found[f"transformer.h.{layer}.{inner_names[part]}.{kind}"] = tensor.t()
        else:
            found[f"transformer.{outer_names[owner]}.{kind}"] = tensor
    return found


def relative(found: Tensor, expected: Tensor) -> float:
    """The length of the difference as a share of the expected length."""
    return ((found - expected).norm() / expected.norm()).item()


# What both need


def their_model(config: ModelConfig) -> Any:
    """Hugging Face's GPT-2 of that size, as it comes but without dropout and cache."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.known_vocab,
            n_positions=config.context,
            n_embd=config.d_model,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_inner=config.d_hidden,
            layer_norm_epsilon=config.norm_epsilon,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    return model.train()


def autocast(config: RunConfig) -> Any:
    """Where they have the precision from."""
    if choose_precision(config.training.precision, cpu) == "bf16":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def random_ids(config: RunConfig, seed: int) -> Tensor:
    """A batch of ids."""
    return torch.randint(
        config.model.known_vocab,
        (config.batch_size, config.model.context),
        generator=torch.Generator().manual_seed(seed),
    )


# The process


contenders = {
    "check": check,
    "peak": peak,
    "ours": ours,
    "ours, compiled": ours,
    "Hugging Face": partial(hugging_face, is_compiled=False),
    "Hugging Face, compiled": partial(hugging_face, is_compiled=True),
}


def main() -> None:
    """Warm up, then measure once for each line on standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, *overrides = sys.argv[1:]
    config = load_settings(RunConfig, None, overrides).config
    with contenders[name](config) as (facts, turn):
        print(json.dumps(facts), file=answers, flush=True)
        used = time.process_time()
        for _ in sys.stdin:
            waited = time.process_time() - used
            measured = turn()
            used = time.process_time()
            answer = {"measured": measured, "used_while_waiting": waited}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
