"""Textbook rules beside the run that they are about: what each says, and how far off it is."""

from dataclasses import dataclass

from modelwright.accounting.inference import kv_cache_bytes, weight_bytes
from modelwright.accounting.memory import Workload, inner_activations, total
from modelwright.accounting.memory_rules import Subject, textbook_rules
from modelwright.model.config import ModelConfig
from modelwright.planning.step import Site
from modelwright.runtime.device import Precision
from modelwright.training.choices import settled_recompute
from modelwright.training.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a rule says about a run, and what that comes to in truth.

    Attributes:
        about: "training": the peak of the step that was followed; "inference": weights and the
            cache of one text as long as the context, in fp32 as the rules have it; "blocks": what
            all blocks keep for the backward pass, in closed form.
        traced_bytes: of that; None for blocks that the closed form does not describe.
        relative_error: 0.5 where the rule says half too much; None where nothing is known.
    """

    name: str
    source: str
    about: Subject
    n_bytes: int
    traced_bytes: int | None
    relative_error: float | None


def compared_rules(
    config: RunConfig, shape: ModelConfig, site: Site, *, precision: Precision, peak_bytes: int
) -> tuple[Rule, ...]:
    """All rules for a run; those that know of activations, for what is at work at once.

    Args:
        shape: the run's model with its vocabulary.
        peak_bytes: of the step that was followed.
    """
    seq = shape.context
    n_at_once = min(site.n_lanes, -(-config.batch_size // site.micro_batch))
    portion = Workload(
        batch=site.micro_batch,
        seq=seq,
        precision=precision,
        attention=site.attention,
        device=site.device,
        recompute=settled_recompute(config),
        recompute_every=config.training.recompute_every,
    )
    is_usual = config.training.residual == "products" and not config.training.fp8
    kept = kept_by_blocks(shape, portion) if is_usual else None
    truths: dict[Subject, int | None] = {
        "training": peak_bytes,
        "inference": weight_bytes(shape, "fp32")
        + kv_cache_bytes(shape, batch=1, seq=seq, bytes_per_number=4),
        "blocks": None if kept is None else n_at_once * kept,
    }
    rules = textbook_rules(shape, batch=n_at_once * site.micro_batch, seq=seq)
    return tuple(
        Rule(
            name=rule.name,
            source=rule.source,
            about=rule.about,
            n_bytes=rule.n_bytes,
            traced_bytes=truth,
            relative_error=None if truth is None else rule.relative_error(truth),
        )
        for rule in rules
        for truth in (truths[rule.about],)
    )


def kept_by_blocks(shape: ModelConfig, portion: Workload) -> int | None:
    """Bytes that all blocks keep of a portion if none is compiled; None where no form covers it."""
    try:
        return total(inner_activations(shape, portion))
    except ValueError:
        return None
