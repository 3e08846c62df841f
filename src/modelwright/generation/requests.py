"""One text to be written: what was asked for, what is there so far, and why it ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from modelwright.generation.config import SamplingConfig
from modelwright.tokenizer.tokenizer import Tokenizer

Ending = Literal["end_of_text", "stop", "max_tokens", "cancelled"]
Overflow = Literal["error", "slide"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A text to be continued, with everything its continuation depends on."""

    prompt: str = ""
    """May be empty: then the model begins a document of its own."""
    max_tokens: int = 200
    """Most tokens added."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0
    stop: Sequence[str] = ()
    """Texts that end the continuation; they are not part of it, nor is what follows."""
    stop_tokens: Sequence[int] = ()
    """Tokens that end it, besides end-of-text."""
    ignore_end: bool = False
    """Whether end-of-text is a token like others."""
    n_logprobs: int | None = None
    """For how many of the likeliest tokens of each place log-probabilities are kept, besides that
    of the token chosen; None keeps none."""
    overflow: Overflow = "slide"
    """What happens when prompt and continuation do not fit into the model's context: "error"
    refuses the request; with "slide" the model sees the last part of the text, as long as the
    context. Then each token costs a pass over all of that part, because every place moves."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; the least is 1")
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(
                f"stop is {self.stop!r}; give a list of texts, none of them empty, such as ['\\n']"
            )
        if self.n_logprobs is not None and self.n_logprobs < 0:
            raise ValueError(
                f"n_logprobs is {self.n_logprobs}; choose 0 (the chosen token alone) or more"
            )
        if self.overflow not in ("error", "slide"):
            raise ValueError(f"overflow is {self.overflow!r}; choose 'error' or 'slide'")


@dataclass(frozen=True)
class TokenChances:
    """Natural logarithms of chances before temperature and whatever else narrows the choice."""

    token: int
    logprob: float
    likeliest: list[tuple[int, float]]
    """Token and logarithm, the likeliest first."""


class StopFinder:
    """Passes text on character by character, but holds back what may become a stop text.

    The first stop text to be complete counts, so that it does not matter how tokens cut the text.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.held = ""

    def feed(self, piece: str) -> tuple[str, bool]:
        """Return the text that is certain by now and whether a stop text has come."""
        if not self.stops:
            return piece, False
        certain = ""
        for character in piece:
            self.held += character
            complete = [len(stop) for stop in self.stops if self.held.endswith(stop)]
            if complete:
                return certain + self.held[: -max(complete)], True
            n_kept = self._n_held_back()
            at = len(self.held) - n_kept
            certain, self.held = certain + self.held[:at], self.held[at:]
        return certain, False

    def _n_held_back(self) -> int:
        """Length of the longest end of what is held that begins a stop text."""
        lengths = range(min(len(self.held), max(map(len, self.stops)) - 1), 0, -1)
        for length in lengths:
            end = self.held[-length:]
            if any(stop.startswith(end) for stop in self.stops):
                return length
        return 0


class Handle:
    """A request on its way. `text` grows as tokens come; `ended` says why it is finished."""

    def __init__(self, request: Request, tokenizer: Tokenizer) -> None:
        self.request = request
        self.prompt_ids = [tokenizer.end_of_text, *tokenizer.encode(request.prompt).tolist()]
        """The prompt after an end-of-text, which is how every document began in training."""
        self.tokens: list[int] = []
        """All tokens chosen, one that ended the text included."""
        self.n_drawn = 0
        """How many tokens were drawn; the last ones of them may still be on their way here."""
        self.logprobs: list[TokenChances] = []
        self.text = ""
        """The continuation as far as it is certain: whole characters, no beginning of a stop."""
        self.ended: Ending | None = None
        self._n_taken = 0
        self._decoder = tokenizer.streaming_decoder()
        self._finder = StopFinder(request.stop)
        self._final = {*request.stop_tokens}
        if not request.ignore_end:
            self._final.add(tokenizer.end_of_text)
        self._end_of_text = tokenizer.end_of_text

    @property
    def ids(self) -> list[int]:
        """All tokens of the text, those of the prompt first."""
        return self.prompt_ids + self.tokens

    def last_ids(self, n: int) -> list[int]:
        """The last tokens of the text."""
        return self.ids[-n:]

    def take(self) -> str:
        """The part of the text that was not taken yet."""
        piece = self.text[self._n_taken :]
        self._n_taken = len(self.text)
        return piece

    def note(self, chances: TokenChances) -> None:
        """Keep as much of the next token's log-probabilities as was asked for."""
        if (n := self.request.n_logprobs) is not None:
            self.logprobs.append(replace(chances, likeliest=chances.likeliest[:n]))

    def accept(self, token: int) -> None:
        """Add the next token; the engine calls this."""
        self.tokens.append(token)
        if token in self._final:
            self.end("end_of_text" if token == self._end_of_text else "stop")
            return
        if self._show(self._decoder.feed(token)):
            self.ended = "stop"
        elif len(self.tokens) == self.request.max_tokens:
            self.end("max_tokens")

    def end(self, reason: Ending) -> None:
        """Finish the text: what was held back is shown, for nothing can follow it."""
        self.ended = reason
        if self._show(self._decoder.finish()):
            self.ended = "stop"
        else:
            self.text += self._finder.held

    def _show(self, piece: str) -> bool:
        certain, is_stopped = self._finder.feed(piece)
        self.text += certain
        return is_stopped
