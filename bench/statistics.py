"""What a figure says, from the rounds in which it was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Round(Generic[T]):
    """What was measured in turn: ours, theirs, and ours once more, for the null control."""

    ours: T
    theirs: T
    again: T


@dataclass(frozen=True)
class Part:
    """One number, and what it has to reach; without a target it is reported only. A figure holds if its parts do."""

    name: str
    values: Sequence[float]
    nulls: Sequence[float]  # the same ratio of ours against ours: how far from 1 chance alone leads
    target: float | None
    at_least: bool  # else: at most

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """How far from 1 half of the null control's ratios lie at the most; 0 where there is none."""
        return median(abs(null - 1) for null in self.nulls) if self.nulls else 0.0

    @property
    def margin(self) -> float:
        """1 and more: the target is met. The value's share of the target, or the reverse where less is better."""
        if self.target is None:
            return math.inf
        if self.at_least:
            return self.value / self.target
        return self.target / self.value if self.value else math.inf

    @property
    def holds(self) -> bool:
        return self.margin * (1 + self.spread) >= 1


@dataclass(frozen=True)
class Outcome:
    """What one function of `bench.figures` found. `detail` is for the reader of results.json."""

    parts: Sequence[Part]
    unit: str
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def worst(self) -> Part:
        """The part that is nearest to its failure, or deepest in it."""
        return min(self.parts, key=lambda part: part.margin * (1 + part.spread))

    @property
    def holds(self) -> bool:
        return all(part.holds for part in self.parts)


def interleaved(ours: Callable[[], T], theirs: Callable[[], T], *, rounds: int = 7) -> list[Round[T]]:
    """Measure in turn; who comes first alternates, so that a machine that gets slower or faster favours nobody."""
    measured = []
    for number in range(rounds):
        first, second = ours(), theirs()
        if number % 2:
            measured.append(Round(ours=ours(), theirs=second, again=first))
        else:
            measured.append(Round(ours=first, theirs=second, again=ours()))
    return measured


def in_turn(ours: Callable[[], T], theirs: Mapping[str, Callable[[], T]], *, rounds: int) -> dict[str, list[Round[T]]]:
    """As `interleaved`, with several peers, by name, between ours and ours once more."""
    measured: dict[str, list[Round[T]]] = {name: [] for name in theirs}
    for number in range(rounds):
        first = ours()
        found = {name: theirs[name]() for name in list(theirs)[:: -1 if number % 2 else 1]}
        last = ours()
        one, again = (last, first) if number % 2 else (first, last)
        for name, their in found.items():
            measured[name].append(Round(ours=one, theirs=their, again=again))
    return measured


def compare(
    name: str,
    rounds: Sequence[Round[T]],
    of: Callable[[T], float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Part:
    """`of` what was measured: ours against theirs, and ours against itself. Without a target it is reported only."""
    target = at_least if at_least is not None else at_most
    return Part(
        name,
        values=[of(round.ours) / of(round.theirs) for round in rounds],
        nulls=[of(round.ours) / of(round.again) for round in rounds],
        target=target,
        at_least=at_least is not None,
    )


def medians(rounds: Sequence[Round[float]]) -> dict[str, float]:
    """For who wants more than a ratio."""
    return {
        "ours": median(round.ours for round in rounds),
        "theirs": median(round.theirs for round in rounds),
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is at least as large as so many percent of them (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(math.ceil(len(ranked) * percent / 100), 1) - 1]
