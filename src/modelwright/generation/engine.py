"""Text from a model: many requests at once, which join and leave between steps.

Each step gives every text in a slot its next token. A text that joins is read as a whole once
(prefill); after that a step reads one token of each (decode), all of them together.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelwright.generation.cached_model import CachedModel
from modelwright.generation.config import SamplingConfig
from modelwright.generation.drawing import ChancesOnTheirWay, Drawing, RowDrawing
from modelwright.generation.requests import Handle, Request
from modelwright.generation.transfer import OnItsWay, on_device
from modelwright.model.transformer import Transformer
from modelwright.runtime.graphs import CudaGraphs, Recorder
from modelwright.runtime.seeding import stream_seed
from modelwright.tokenizer.tokenizer import Tokenizer

most_at_once = 16  # texts of one call of `generate`; each slot costs memory
n_steps_ahead = 2  # that a GPU is given before the host has seen the tokens of an earlier one


@dataclass(frozen=True)
class Drawn:
    """The tokens of a step, on their way to the texts they belong to."""

    handles: list[Handle]
    tokens: OnItsWay
    chances: ChancesOnTheirWay | None


class Engine:
    """Writes texts for requests; not to be used from two threads at once.

    A text depends on its request alone, up to the rounding of sums: what else is in the batch
    changes neither its draws nor what it sees.

    On an NVIDIA GPU, a step is a CUDA graph, and the next ones are asked for before its tokens are
    here. What a text would have got after its end, which is noticed late, is dropped.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        n_slots: int = 8,
        n_tokens: int | None = None,
        graphs: bool | None = None,
        record: Recorder | None = None,
    ) -> None:
        """Args:
        model: its weights are taken as they are now.
        n_slots: most texts in hand at once; further requests wait.
        n_tokens: longest text, prompt included, that a slot has memory for; None is the context.
        graphs: whether steps are recorded and repeated; None is wherever an NVIDIA GPU is.
        record: how; None makes CUDA graphs.

        Raises:
            ValueError: if a number is below 1, the tokenizer knows tokens that the model does not,
                CUDA graphs are asked for elsewhere than on a GPU, or it is said how to record what
                is not to be recorded.
        """
        if n_slots < 1 or (n_tokens is not None and n_tokens < 1):
            raise ValueError(
                f"n_slots is {n_slots} and n_tokens {n_tokens}; the least of each is 1"
            )
        check_vocabulary(model, tokenizer)
        device = model.embedding.weight.device
        recorder = recorder_for(device, graphs=graphs, record=record)
        self.tokenizer = tokenizer
        self.context = model.config.context
        self.model = CachedModel(model, n_slots=n_slots, n_tokens=n_tokens, record=recorder)
        drawing = Drawing if recorder is None else RowDrawing
        self.drawing = drawing(n_slots=n_slots, n_vocab=tokenizer.n_vocab, device=device)
        self.n_ahead = 0 if recorder is None else n_steps_ahead
        self.last_tokens = torch.zeros(n_slots, dtype=torch.int64, device=device)
        if self.model.recorded is not None:
            self.last_tokens = self.model.recorded.step.ids
        self.waiting: deque[Handle] = deque()
        self.active: list[Handle] = []
        """The text of each slot in use, which are the first ones."""
        self.on_their_way: deque[Drawn] = deque()
        """The tokens of steps that were begun, the oldest first."""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.active and not self.waiting and not self.on_their_way

    def submit(self, request: Request) -> Handle:
        """Take a request; it joins at the next step that has a free slot.

        Raises:
            ValueError: if the text may outgrow the context and the request forbids that, or
                outgrow the memory of a slot.
        """
        handle = Handle(request, self.tokenizer)
        n_prompt = len(handle.prompt_ids)
        n_longest = n_prompt + request.max_tokens
        if n_longest > self.context and request.overflow == "error":
            raise ValueError(
                f"the prompt has {n_prompt} tokens and max_tokens is {request.max_tokens}, "
                f"together {n_longest}, but model.context is {self.context}; shorten them, or let "
                "overflow be 'slide'"
            )
        n_held = self.model.cache.n_tokens
        if min(n_longest, self.context) > n_held:
            raise ValueError(
                f"the prompt has {n_prompt} tokens and max_tokens is {request.max_tokens}, but a "
                f"slot of this engine holds {n_held} tokens; make it with n_tokens = "
                f"{min(n_longest, self.context)} or more"
            )
        self.waiting.append(handle)
        return handle

    def cancel(self, handle: Handle) -> None:
        """End a text where it is; one that is finished stays so."""
        if handle.ended is not None:
            return
        handle.end("cancelled")
        if handle in self.waiting:
            self.waiting.remove(handle)
        self._leave()
        self._forget_ended()

    def run(self) -> None:
        """Step until nothing is left to do."""
        while not self.is_idle:
            self.step()

    @torch.inference_mode()
    def step(self) -> list[Handle]:
        """Give every text in a slot its next token; return those texts.

        A text that has just joined gets its first one in this call or, where steps are begun
        ahead, in one of the next.
        """
        while self._may_begin():
            self._begin()
        if not self.on_their_way:
            return []
        drawn = self.on_their_way.popleft()
        tokens = drawn.tokens.numbers()
        chances = None if drawn.chances is None else drawn.chances.of_rows(tokens)
        stepped: list[Handle] = []
        for row, handle in enumerate(drawn.handles):
            if handle.ended is not None:
                continue  # by a token before, when this one had been asked for already
            if chances is not None:
                handle.note(chances[row])
            handle.accept(tokens[row])
            stepped.append(handle)
        self._leave()
        self._forget_ended()
        return stepped

    def _may_begin(self) -> bool:
        """Whether to begin a step now, rather than wait for the tokens of an earlier one."""
        if not self.active and not self.waiting:
            return False
        # A full slot is read anew from its tokens, and for that they have to be here.
        lengths = self.model.cache.lengths[: len(self.active)]
        n_ahead = 0 if self.model.cache.n_tokens in lengths else self.n_ahead
        return len(self.on_their_way) <= n_ahead

    def _begin(self) -> None:
        """Draw the next token of every text in a slot, and of those that join."""
        n_old = len(self.active)
        while self.waiting and len(self.active) < self.model.cache.n_slots:
            handle = self.waiting.popleft()
            self.drawing.seen.join(len(self.active), handle)
            self.active.append(handle)
        handles = list(self.active)
        chances = None
        if self._is_plain(n_old):
            tokens = self._recorded_tokens(handles)
        else:
            # A model may have rows for more tokens than there are; those mean nothing.
            logits = self._next_logits(n_old)[:, : self.tokenizer.n_vocab]
            tokens = self.drawing.draw(logits, handles)
            self.last_tokens[: len(handles)].copy_(tokens)
            if any(handle.request.n_logprobs is not None for handle in handles):
                chances = ChancesOnTheirWay(logits, tokens, handles)
        self.on_their_way.append(Drawn(handles, OnItsWay(tokens), chances))
        for handle in handles:
            handle.n_drawn += 1
        self._leave()

    def _is_plain(self, n_old: int) -> bool:
        """Whether a step is nothing but what was recorded."""
        lengths = self.model.cache.lengths[:n_old]
        return (
            self.model.recorded is not None
            and n_old == len(self.active)
            and self.model.cache.n_tokens not in lengths
            and all(handle.request.n_logprobs is None for handle in self.active)
        )

    def _recorded_tokens(self, handles: list[Handle]) -> Int[Tensor, " text"]:
        """The next tokens, by one recording that ends with their being the last ones."""
        recorded, drawing = self.model.recorded, self.drawing
        assert recorded is not None and isinstance(drawing, RowDrawing)
        stages = drawing.prepare(handles)

        def choose(logits: Tensor) -> Tensor:
            tokens = drawing.choose(logits[:, : self.tokenizer.n_vocab], stages)
            return self.last_tokens[: len(tokens)].copy_(tokens)

        return recorded.then(len(handles), stages, choose)[: len(handles)]

    def _next_logits(self, n_old: int) -> Float[Tensor, "text vocab"]:
        """Logits after each text: of old ones by their last token, of others by all of it."""
        cache = self.model.cache
        is_full = [cache.lengths[row] == cache.n_tokens for row in range(n_old)]
        whole = [row for row, full in enumerate(is_full) if full]
        whole += range(n_old, len(self.active))
        logits = None
        if not all(is_full):
            logits = self.model.decode(self.last_tokens[:n_old])
        if not whole:
            assert logits is not None
            return logits
        rows = on_device(whole, torch.int64, self.model.device)
        read = self._read_whole(whole)
        together = read.new_empty(len(self.active), read.shape[1])
        if logits is not None:
            together[:n_old] = logits
        return together.index_copy_(0, rows, read)

    def _read_whole(self, rows: list[int]) -> Float[Tensor, "text vocab"]:
        """Read the last part of texts anew; those of one length together, equal ones once."""
        cache = self.model.cache
        slots_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row in rows:
            slots_of[tuple(self.active[row].last_ids(cache.n_tokens))].append(row)
        by_length: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for ids in slots_of:
            by_length[len(ids)].append(ids)
        found: dict[int, Tensor] = {}
        for texts in by_length.values():
            together = on_device(texts, torch.int64, self.model.device)
            logits = self.model.prefill([slots_of[ids][0] for ids in texts], together)
            for ids, row_logits in zip(texts, logits, strict=True):
                first, *others = slots_of[ids]
                for other in others:
                    cache.copy(first, other)
                found |= dict.fromkeys((first, *others), row_logits)
        return torch.stack([found[row] for row in rows])

    def _leave(self) -> None:
        """Drop texts that need no more tokens; the last one in a slot takes the place of one that
        left."""
        for row in reversed(range(len(self.active))):
            handle = self.active[row]
            if handle.ended is None and handle.n_drawn < handle.request.max_tokens:
                continue
            last = self.active.pop()
            if row < len(self.active):
                self.active[row] = last
                self.model.cache.copy(len(self.active), row)
                self.drawing.seen.move(len(self.active), row)
                self.last_tokens[row] = self.last_tokens[len(self.active)]

    def _forget_ended(self) -> None:
        """Drop the tokens of steps that no text waits for any more."""
        while self.on_their_way and all(
            handle.ended is not None for handle in self.on_their_way[0].handles
        ):
            self.on_their_way.popleft()


@dataclass(frozen=True)
class Generation:
    """One finished text: the prompt as given, what the model added, and why it stopped."""

    prompt: str
    continuation: str
    n_tokens: int
    ended: bool  # True if the model ended the text itself, False if max_tokens did

    @property
    def text(self) -> str:
        return self.prompt + self.continuation


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    n_samples: int = 1,
    max_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
) -> list[Generation]:
    """Continue a prompt several times.

    Args:
        prompt: may be empty: then the model begins a document of its own.
        max_tokens: most tokens added to each; once the text is longer than the model's context,
            only its last part is seen.
        seed: of the draws; `seed_of` says what each text makes of it.

    Raises:
        ValueError: if a count is below 1 or the tokenizer knows tokens that the model does not.
    """
    if n_samples < 1 or max_tokens < 1:
        raise ValueError(
            f"n_samples is {n_samples} and max_tokens {max_tokens}; the least of each is 1"
        )
    requests = [
        Request(
            prompt=prompt,
            max_tokens=max_tokens,
            sampling=sampling or SamplingConfig(),
            seed=seed_of(seed, sample),
        )
        for sample in range(n_samples)
    ]
    engine = engine_for(model, tokenizer, requests)
    handles = [engine.submit(request) for request in requests]
    engine.run()
    return [
        Generation(prompt, handle.text, len(handle.tokens), handle.ended == "end_of_text")
        for handle in handles
    ]


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Continue a prompt once, giving the text token by token, never half a character.

    A token that leaves a character unfinished gives an empty piece.
    """
    request = Request(
        prompt=prompt, max_tokens=max_tokens, sampling=sampling or SamplingConfig(), seed=seed
    )
    engine = engine_for(model, tokenizer, [request])
    handle = engine.submit(request)
    while handle.ended is None:
        if handle in engine.step():
            piece = handle.take()
            if piece or handle.ended != "end_of_text":
                yield piece


def engine_for(model: Transformer, tokenizer: Tokenizer, requests: list[Request]) -> Engine:
    """An engine with memory for just these requests."""
    check_vocabulary(model, tokenizer)
    longest = max(
        1 + len(tokenizer.encode(request.prompt)) + request.max_tokens for request in requests
    )
    return Engine(model, tokenizer, n_slots=min(len(requests), most_at_once), n_tokens=longest)


def recorder_for(
    device: torch.device, *, graphs: bool | None, record: Recorder | None
) -> Recorder | None:
    """What records the steps on a device; None has them asked for anew each time."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    if graphs is None:
        graphs = is_nvidia or record is not None
    if not graphs:
        if record is not None:
            raise ValueError(
                "graphs is False, but record says how steps are recorded; leave out one of them"
            )
        return None
    if record is None and not is_nvidia:
        raise ValueError(
            f"graphs is True, but the model is on '{device}', and CUDA graphs are for NVIDIA GPUs; "
            "leave graphs out, or move the model to one"
        )
    return CudaGraphs() if record is None else record


def seed_of(seed: int, sample: int) -> int:
    """The seed of one of several texts from one seed; the first has that seed itself."""
    return stream_seed(seed, f"sample/{sample}") if sample else seed


def check_vocabulary(model: Transformer, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that knows tokens that the model does not."""
    if tokenizer.n_vocab > (model.config.vocab_size or 0):
        raise ValueError(
            f"the tokenizer has {tokenizer.n_vocab} tokens, but the model knows "
            f"{model.config.vocab_size}; use the tokenizer it was trained with"
        )


def start_tokens(model: Transformer, tokenizer: Tokenizer, prompt: str) -> Int[Tensor, "1 seq"]:
    """The prompt's ids after an end-of-text, which is how every document began in training."""
    check_vocabulary(model, tokenizer)
    ids = [tokenizer.end_of_text, *(int(token) for token in tokenizer.encode(prompt))]
    device = next(model.parameters()).device
    return torch.tensor([ids], dtype=torch.int64, device=device)
