"""How likely a model finds the ends of texts: many at once, and what they share only once.

The answers to one question stand in one row, behind the beginning that they have in common:

    beginning | end of answer 1 | end of answer 2 | end of answer 3

Each end has the positions that follow the beginning, and sees the beginning and itself. So every
token is computed once, in a single pass, with no copies of keys and values. Logits exist only where
a token is scored, for a few positions at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from modelwright.evaluation.encoding import Scored
from modelwright.evaluation.items import Outcome
from modelwright.generation.cached_model import twin_of
from modelwright.generation.packing import can_pack, pack
from modelwright.generation.transfer import OnItsWay, on_device
from modelwright.model.attention import Visibility, choose_attention, make_attend
from modelwright.model.transformer import Transformer

beginning, first_end = 0, 1  # numbers of the parts of a row
logit_bytes = 64 << 20  # of fp32 logits that exist at once


@dataclass
class Part:
    """Where one scored text stands: its logits come from these places of its row."""

    question: int
    answer: int
    places: list[int]
    targets: tuple[int, ...]


@dataclass
class PackedRow:
    """One row of a batch: tokens, the position of each, and the part that it belongs to."""

    ids: list[int]
    positions: list[int]
    parts: list[int]
    scored: list[Part]


class BranchVisibility(Visibility):
    """Each token sees those before it in its own part, and those of the beginning.

    A part is what elsewhere is a document. With a window, nothing may be shared.
    """

    def meets(
        self, row: Int[Tensor, "batch seq 1"], column: Int[Tensor, "batch 1 seq"]
    ) -> Bool[Tensor, "batch seq seq"]:
        """Whether tokens of one part see those of another before them."""
        return (row == column) | (column == beginning)


class Scorer:
    """A model made ready for scoring: weights cast and packed once, attention that takes masks."""

    def __init__(self, model: Transformer, *, batch_tokens: int | None = None) -> None:
        """Args:
        batch_tokens: how many at once, padding included; None is what suits the device. It changes
            the speed, not the answer.

        Raises:
            ValueError: if it is less than one.
        """
        config = model.config
        self.model = twin_of(model)
        self.device = model.embedding.weight.device
        if batch_tokens is not None and batch_tokens < 1:
            raise ValueError(f"--batch-tokens is {batch_tokens}; choose at least 1, such as 4096")
        self.batch_tokens = batch_tokens or usual_batch_tokens(self.device)
        self.shares = config.window is None or config.window >= config.context
        kind = choose_attention(
            self.device,
            model.dtype,
            d_head=config.head_width,
            n_tokens=config.context,
            masked=True,
            dropout=0.0,
            deterministic=False,
        )
        blocks: list[Any] = list(self.model.blocks)
        for block in blocks:
            block.attention.attend = make_attend(kind)
        if can_pack(self.device, model.dtype):
            pack(self.model, self.batch_tokens)
        visibility = BranchVisibility(config.window)
        setattr(self.model, "visibility", visibility)  # noqa: B010 - it is called as the other is

    def outcomes(self, questions: Sequence[tuple[Scored, ...]]) -> Iterator[dict[int, Outcome]]:
        """Score all answers of questions, the longest questions first.

        Yields:
            After each batch, what is known of the questions that it finished, by their place.
        """
        gathered: dict[int, list[tuple[float, bool] | None]] = {
            place: [None] * len(answers) for place, answers in enumerate(questions)
        }
        for found in self._batches(questions):
            finished: dict[int, Outcome] = {}
            for (place, answer), value in found.items():
                values = gathered[place]
                values[answer] = value
                known = [value for value in values if value is not None]
                if len(known) == len(values):
                    finished[place] = outcome_of(questions[place], known)
            yield finished

    def _batches(
        self, questions: Sequence[tuple[Scored, ...]]
    ) -> Iterator[dict[tuple[int, int], tuple[float, bool]]]:
        """Summed log-probability of each text, and whether all its tokens were the likeliest."""
        rows = [
            row
            for place, answers in enumerate(questions)
            for row in rows_of(answers, place, self.model.config.context, shares=self.shares)
        ]
        rows.sort(key=lambda row: -len(row.ids))
        ahead: tuple[list[Part], OnItsWay] | None = None
        for batch in batches_of(rows, self.batch_tokens):
            parts = [part for row in batch for part in row.scored]
            waiting, ahead = ahead, (parts, OnItsWay(self._scores(batch)))
            if waiting is not None:  # looked at while the device does the next batch
                yield summed(waiting[0], waiting[1].numbers())
        if ahead is not None:
            yield summed(ahead[0], ahead[1].numbers())

    @torch.inference_mode()
    def _scores(self, batch: list[PackedRow]) -> Float[Tensor, "value token"]:
        """Log-probability of each scored token, and 1 where it was the likeliest one."""
        width = max(len(row.ids) for row in batch)
        if self.device.type == "cuda":
            width += -width % 16  # kernels with a mask want rows of whole bytes
        # What fills a row up is a part of its own, which nobody looks at.
        n_parts = 1 + max(max(row.parts) for row in batch)
        table = [
            [filled(row.ids, width, 0) for row in batch],
            [filled(row.positions, width, 0) for row in batch],
            [filled(row.parts, width, n_parts) for row in batch],
        ]
        places = [
            number * width + place
            for number, row in enumerate(batch)
            for part in row.scored
            for place in part.places
        ]
        targets = [token for row in batch for part in row.scored for token in part.targets]
        ids, positions, parts = on_device(table, torch.int64, self.device)
        where, wanted = on_device([places, targets], torch.int64, self.device)
        is_branched = any(row.parts[-1] != beginning for row in batch)
        hidden = self.model.hidden(
            ids, positions=positions, documents=parts if is_branched else None
        )
        return self._chances(hidden.flatten(0, 1)[where], wanted)

    def _chances(
        self, hidden: Float[Tensor, "token d_model"], targets: Int[Tensor, " token"]
    ) -> Float[Tensor, "value token"]:
        """In portions, since the logits of all would be large; softmax in fp32."""
        size = max(1, logit_bytes // (4 * self.model.config.known_vocab))
        logprobs: list[Tensor] = []
        greedy: list[Tensor] = []
        for some, wanted in zip(hidden.split(size), targets.split(size), strict=True):
            logits = self.model.logits(some).float()
            chosen = logits.gather(1, wanted[:, None])[:, 0]
            logprobs.append(chosen - logits.logsumexp(1))
            greedy.append(logits.argmax(1) == wanted)
        return torch.stack([torch.cat(logprobs), torch.cat(greedy).float()])


def usual_batch_tokens(device: torch.device) -> int:
    """How many tokens at once suit a device."""
    return 32_768 if device.type == "cuda" else 1024


def rows_of(
    answers: Sequence[Scored], question: int, context: int, *, shares: bool
) -> list[PackedRow]:
    """One question's texts in as few rows as hold them, the common beginning once in each."""
    n_common = common_length([answer.inputs for answer in answers]) if shares else 0
    rows: list[PackedRow] = []
    for number, answer in enumerate(answers):
        end = answer.inputs[n_common:]
        if not rows or len(rows[-1].ids) + len(end) > context:
            common = list(answer.inputs[:n_common])
            rows.append(PackedRow(common, list(range(n_common)), [beginning] * n_common, []))
        row = rows[-1]
        shift = len(row.ids) - n_common
        n_inputs = len(answer.inputs)
        scored = range(n_inputs - answer.n_scored, n_inputs)
        places = [place + shift if place >= n_common else place for place in scored]
        row.scored.append(Part(question, number, places, answer.targets))
        row.ids += end
        row.positions += range(n_common, n_inputs)
        row.parts += [first_end + number] * len(end)
    return rows


def common_length(texts: Sequence[Sequence[int]]) -> int:
    """How many first tokens all texts have in common; a single text is its own beginning."""
    n_common = 0
    for tokens in zip(*texts, strict=False):
        if any(token != tokens[0] for token in tokens):
            break
        n_common += 1
    return n_common


def batches_of(rows: Sequence[PackedRow], batch_tokens: int) -> Iterator[list[PackedRow]]:
    """Rows, longest first, as many at a time as do not exceed that many tokens with padding."""
    first = 0
    while first < len(rows):
        n_rows = max(1, batch_tokens // len(rows[first].ids))
        yield list(rows[first : first + n_rows])
        first += n_rows


def filled(numbers: list[int], width: int, filler: int) -> list[int]:
    """A row of that width."""
    return numbers + [filler] * (width - len(numbers))


def summed(
    parts: Sequence[Part], scores: Sequence[Sequence[float]]
) -> dict[tuple[int, int], tuple[float, bool]]:
    """Scores of tokens, log-probabilities and whether likeliest, added up for each text."""
    logprobs, greedy = scores
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    first = 0
    for part in parts:
        end = first + len(part.targets)
        found[part.question, part.answer] = (sum(logprobs[first:end]), all(greedy[first:end]))
        first = end
    return found


def outcome_of(answers: Sequence[Scored], values: Sequence[tuple[float, bool]]) -> Outcome:
    """What a model made of a question, from its scores of the answers."""
    return Outcome(
        logprobs=tuple(logprob for logprob, _ in values),
        greedy=tuple(greedy for _, greedy in values),
        n_tokens=tuple(answer.n_scored for answer in answers),
        truncated=any(answer.truncated for answer in answers),
    )
