"""Ideal round robin, replayed on the very instants at which a run's jobs began."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Start:
    """When a job came into being, and when its body began; the same clock's seconds."""

    tenant: str
    created: float
    began: float

    @property
    def wait(self) -> float:
        return self.began - self.created


def ideal(starts: Iterable[Start]) -> list[Start]:
    """What would have begun at each of these instants, had the tenants that had work taken turns.

    A tenant that gets work stands last in the ring; the one that was served goes to its end. Where nobody has work yet
    (a clock's tick of difference), the next job to come takes the instant.
    """
    starts = list(starts)
    arrivals = deque(sorted((start.created, start.tenant) for start in starts))
    ring: deque[str] = deque()
    waiting: dict[str, deque[float]] = {}
    served = []
    for instant in sorted(start.began for start in starts):
        while arrivals and (arrivals[0][0] <= instant or not ring):
            created, tenant = arrivals.popleft()
            jobs = waiting.setdefault(tenant, deque())
            if not jobs:
                ring.append(tenant)
            jobs.append(created)
        tenant = ring.popleft()
        served.append(Start(tenant, waiting[tenant].popleft(), instant))
        if waiting[tenant]:
            ring.append(tenant)
    return served
