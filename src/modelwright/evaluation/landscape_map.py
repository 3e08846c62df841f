"""What a landscape is a map of: which points it has, what was found there, and what that says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["plane", "curve", "path"]
At = tuple[float, ...]
nearest = 1e-9  # coordinates closer than that are the same


@dataclass(frozen=True, kw_only=True)
class LandscapeConfig:
    """Which points of which landscape to measure.

    Attributes:
        kind: the plane of two random directions, the curve along one, or the path to other weights.
        points: on each axis; odd, so that the model itself is one of them.
        span: how far the map goes to each side of its middle. Along a random direction 1 moves
            each filter by its own length; on a path it is the whole way, whose middle is at 0.5.
        seed: of the random directions.
        n_tokens: how many the loss is the mean of; 0 takes all there are.
        with_vectors: also move biases and the weights of norms along random directions.
    """

    kind: Kind = "plane"
    points: int = 21
    span: float = 1.0
    seed: int = 1
    n_tokens: int = 16_384
    with_vectors: bool = False

    def __post_init__(self) -> None:
        if self.points < 3 or self.points % 2 == 0:
            odd = max(3, self.points + 1)
            raise ValueError(
                f"points is {self.points}, but the middle has to be one of them, with others on "
                f"both sides; choose an odd number such as {odd}"
            )
        if not (math.isfinite(self.span) and self.span > 0):
            raise ValueError(f"span is {self.span}; choose a number above 0, such as 1.0")
        if self.n_tokens < 0:
            raise ValueError(f"n_tokens is {self.n_tokens}; the least is 1, and 0 takes all")

    @property
    def axis(self) -> list[float]:
        """The coordinates of one axis, ascending; those of a path hold both ends."""
        half = self.points // 2
        offsets = [self.span * k / half for k in range(-half, half + 1)]
        if self.kind != "path":
            return offsets
        shares = [0.5 + offset for offset in offsets]
        between = [share for share in shares if min(abs(share), abs(share - 1)) > nearest]
        return sorted([*between, 0.0, 1.0])

    @property
    def spacing(self) -> float:
        """From one point to the next."""
        return self.span / (self.points // 2)

    @property
    def coordinates(self) -> list[At]:
        """All points, from the middle outwards, so that a part of the map is one to look at."""
        axis = self.axis
        if self.kind == "plane":
            return sorted(((a, b) for a in axis for b in axis), key=lambda at: (length(at), at))
        middle = 0.5 if self.kind == "path" else 0.0
        return sorted(((a,) for a in axis), key=lambda at: (round(abs(at[0] - middle), 9), at))


@dataclass(frozen=True)
class Point:
    """The loss at one place, in nats per token; it may be infinite or no number."""

    at: At
    loss: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class Sharpness:
    """How steep it is around the trained model.

    Attributes:
        radius: how far around it was looked, in multiples of the directions.
        rise: the most by which the loss there is above the trained model's, in nats per token;
            infinite if it is not finite somewhere.
        n_points: how many points of the map that is the most of.
    """

    radius: float
    rise: float
    n_points: int


@dataclass(frozen=True)
class Landscape:
    """A map as far as it was measured.

    Attributes:
        settings: everything that decides the losses, hashes of weights and text among them.
        about: what people call the model and the text.
    """

    config: LandscapeConfig
    points: Sequence[Point]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    about: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_complete(self) -> bool:
        return len(self.points) == len(self.config.coordinates)

    def at(self, *at: float) -> Point | None:
        """What was found at a place of the map; None if it was not measured."""
        return next((point for point in self.points if point.at == at), None)

    @property
    def trained(self) -> Point | None:
        """The model itself."""
        return self.at(0.0, 0.0) if self.config.kind == "plane" else self.at(0.0)

    @property
    def lowest(self) -> Point | None:
        """The lowest finite loss that was found, the one nearer to the model of two equal ones."""
        finite = [point for point in self.points if point.is_finite]
        return min(finite, key=lambda point: (point.loss, length(point.at)), default=None)

    @property
    def n_not_finite(self) -> int:
        return sum(not point.is_finite for point in self.points)

    def sharpness(self) -> Sharpness | None:
        """The largest rise within a quarter of the span, or the next points if these are farther.

        None on a path, or where the points of that radius were not all measured.
        """
        trained, config = self.trained, self.config
        if config.kind == "path" or trained is None:
            return None
        radius = max(config.span / 4, config.spacing)
        near = [at for at in config.coordinates if 0 < length(at) <= radius + nearest]
        found = [point for at in near if (point := self.at(*at)) is not None]
        if len(found) < len(near):
            return None
        rises = [p.loss - trained.loss if p.is_finite else math.inf for p in found]
        return Sharpness(radius, max(rises) if trained.is_finite else math.inf, len(near))

    def barrier(self) -> Point | None:
        """Where on a path, and by how much, the loss is most above the line between its ends.

        Source: Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis",
        section 2, where the line is level at the mean of both ends.

        Returns:
            The share of the way and the height, 0 at an end if it is nowhere above; None for other
            maps and where an end is not known.
        """
        begin, end = self.at(0.0), self.at(1.0)
        if self.config.kind != "path" or begin is None or end is None:
            return None
        heights = [Point((0.0,), 0.0)]
        for point in self.points:
            (share,) = point.at
            if 0 < share < 1:
                line = (1 - share) * begin.loss + share * end.loss
                height = point.loss - line
                heights.append(Point(point.at, height if math.isfinite(height) else math.inf))
        return max(heights, key=lambda point: point.loss)


def length(at: Sequence[float]) -> float:
    """How far a place is from the model; rounded, so that mirror images are as far."""
    return round(math.hypot(*at), 9)
