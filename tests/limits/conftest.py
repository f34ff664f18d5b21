from collections.abc import Callable
from itertools import count

import pytest
from rest_framework.throttling import SimpleRateThrottle

from limits import counts
from limits.counts import Circuit
from limits.stores import OwnCounts

_numbers = count(1)


class Clock:
    """A time in seconds, that stands still."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What this process counts by, as it does while Redis is away; it has counted nothing yet."""
    clock, circuit = Clock(), Circuit()
    circuit.closed = False
    monkeypatch.setattr(counts, "circuit", circuit)
    monkeypatch.setattr(counts, "own", OwnCounts(clock))
    return clock


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the rates of policies. Others limit nobody."""

    def rates(**rates: str) -> None:
        monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", rates)

    return rates


@pytest.fixture
def somewhere() -> Callable[[], str]:
    """An address from which nobody has asked before."""

    def somewhere() -> str:
        number = next(_numbers)
        return f"198.18.{number // 256}.{number % 256}"

    return somewhere
