"""How soon a job begins on a system that has nothing else to do."""

import random

from bench.statistics import Outcome, compare, interleaved, medians, percentile
from bench.system import System
from bench.world import World

JOBS = 20
# Of the poll's length and more, so that commits come at all of its phases.
PAUSES = (0.05, 0.15)


def commit_to_start(world: World) -> Outcome:
    """The p95, against that of plain `delay()` and one idle poll of the relay."""
    from config.settings import RELAY_IDLE_POLL

    chance = random.Random(1)
    with world.tenantry() as ours, world.plain_celery() as theirs:
        rounds = interleaved(
            lambda: _p95(ours, chance, durable=True),
            lambda: _p95(theirs, chance, durable=False) + RELAY_IDLE_POLL,
        )
    part = compare("p95", rounds, float, at_most=1.0)
    note = "from the return of COMMIT to the body's start; seconds; the peer's with the relay's idle poll added"
    return Outcome([part], "ratio of p95", {"note": note, "idle poll": RELAY_IDLE_POLL, **medians(rounds)})


def _p95(system: System, chance: random.Random, *, durable: bool) -> float:
    system.empty()
    pauses = [chance.uniform(*PAUSES) for _ in range(JOBS)]
    with system.awake():
        system.call("waits", durable=durable, homes=system.homes[:1], pauses=pauses[:3])
        return percentile(system.call("waits", durable=durable, homes=system.homes[:1], pauses=pauses), 95)
