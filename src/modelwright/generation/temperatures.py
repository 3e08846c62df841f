"""What a model writes at several temperatures, and how varied that is at each."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelwright.checkpoint.bundle import Bundle
from modelwright.generation.engine import engine_for
from modelwright.generation.requests import Request
from modelwright.generation.variety import Spread, fewest_to_measure, variety_of_groups

texts_in_a_group = 16


@dataclass(frozen=True, kw_only=True)
class AtTemperature:
    """Texts that were drawn at one temperature.

    Attributes:
        prompt: with which each of them begins; it is not repeated in `texts`.
        n_tokens: of a text, in the mean.
        n_groups: into how many groups the texts were divided to be measured; 0, if they are too
            few.
        measures: by the names of `variety.Variety`, over those groups.
    """

    temperature: float
    prompt: str
    n_tokens: float
    texts: tuple[str, ...]
    n_groups: int = 0
    measures: Mapping[str, Spread] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain numbers and texts."""
        return {
            "temperature": self.temperature,
            "prompt": self.prompt,
            "n_texts": len(self.texts),
            "n_groups": self.n_groups,
            "n_tokens": self.n_tokens,
            "measures": {name: dataclasses.asdict(one) for name, one in self.measures.items()},
            "texts": list(self.texts),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "AtTemperature":
        """What `to_json` gave."""
        return cls(
            temperature=plain["temperature"],
            prompt=plain["prompt"],
            n_tokens=plain["n_tokens"],
            texts=tuple(plain["texts"]),
            n_groups=plain["n_groups"],
            measures={name: Spread(**one) for name, one in plain["measures"].items()},
        )


def write_at(bundle: Bundle, temperature: float, requests: Sequence[Request]) -> AtTemperature:
    """Write texts, and measure them if they are enough to be compared.

    Args:
        requests: one for each text, all with the same prompt and a sampling of that temperature.
    """
    engine = engine_for(bundle.model, bundle.tokenizer, list(requests))
    handles = [engine.submit(request) for request in requests]
    engine.run()
    texts = tuple(handle.text for handle in handles)
    n_tokens = statistics.fmean(len(handle.tokens) for handle in handles)
    n_groups = max(2, len(texts) // texts_in_a_group) if len(texts) >= fewest_to_measure else 0
    return AtTemperature(
        temperature=temperature,
        prompt=requests[0].prompt,
        n_tokens=n_tokens,
        texts=texts,
        n_groups=n_groups,
        measures=variety_of_groups(texts, n_groups=n_groups) if n_groups else {},
    )
