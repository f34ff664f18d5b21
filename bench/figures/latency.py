"""How soon a job begins: on a system that has nothing else to do, and again when its worker is lost."""

import random
import time

from bench.statistics import Outcome, Part, compare, interleaved, medians, percentile
from bench.system import System
from bench.world import World
from devstack.processes import wait_until

JOBS = 20
# Of the relay's poll's length and more, so that commits come at all of its phases.
PAUSES = (0.05, 0.15)
# Hard time limits, in seconds.
LIMITS = (30, 3600)
LOSSES = 2
PATIENCE = 120


def commit_to_start(world: World) -> Outcome:
    """The p95, against that of plain `delay()`."""
    chance = random.Random(1)
    with world.tenantry() as ours, world.plain_celery() as theirs:
        rounds = interleaved(
            lambda: _p95(ours, chance, durable=True),
            lambda: _p95(theirs, chance, durable=False),
        )
    part = compare("p95", rounds, float, at_most=2.5)
    note = "from the return of COMMIT to the body's start; seconds"
    return Outcome([part], "ratio of p95", {"note": note, **medians(rounds)})


def _p95(system: System, chance: random.Random, *, durable: bool) -> float:
    system.empty()
    pauses = [chance.uniform(*PAUSES) for _ in range(JOBS)]
    with system.awake():
        system.call("waits", durable=durable, homes=system.homes[:1], pauses=pauses[:3])
        return percentile(system.call("waits", durable=durable, homes=system.homes[:1], pauses=pauses), 95)


def host_lost(world: World) -> Outcome:
    """Seconds from `kill -9` of all that runs on a worker's host to the body's next start, on another one."""
    with world.tenantry() as system, system.awake():
        seconds = {limit: [_lose(system, limit) for _ in range(LOSSES)] for limit in LIMITS}
    parts = [
        Part(f"time limit of {limit} s", found, [each / found[0] for each in found[1:]], target=20, at_least=False)
        for limit, found in seconds.items()
    ]
    return Outcome(parts, "seconds", {"note": "the other host starts its worker when the first is lost"})


def _lose(system: System, limit: int) -> float:
    system.empty()
    system.call("hang_once", home=system.homes[0], time_limit=limit)
    wait_until(lambda: system.database.count() == 1, seconds=PATIENCE, what="the body began")
    system.processes["worker"].kill()
    began = time.monotonic()
    system.processes["worker"].start()
    wait_until(lambda: system.database.count() == 2, seconds=PATIENCE, what="it began again")
    seconds = time.monotonic() - began
    wait_until(system.is_idle, seconds=PATIENCE, what="it ended")
    return seconds
