"""A neighbour that floods the queue: what others wait, and what it loses itself."""

import json
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from bench.measure import PATIENCE, work_off
from bench.round_robin import Start, ideal
from bench.statistics import Outcome, Part, compare, interleaved, medians, percentile
from bench.system import RESULTS, System
from bench.world import World
from devstack.processes import wait_until

TASK = "take_time"
NOISY_JOBS = 3000
QUIET_TENANTS = 10
QUIET_JOBS = 10
MILLISECONDS = 5
RUNS = 7
# The flood has lasted for so many jobs when the quiet ones come.
UNDER_WAY = 200
ALONE = 500


def noisy_neighbour(world: World) -> Outcome:
    """The p95 wait of each of ten quiet tenants, against ideal round robin on the same start instants."""
    with world.tenantry() as system:
        parts, pooled = [], {}
        for noisy in (1, 3):
            runs = [_run(system, noisy) for _ in range(RUNS)]
            ratios = [max(_ratio(run, [tenant]) for tenant in _quiet(system)) for run in runs]
            # The same thing, again and again: each run against the next is the null control.
            nulls = [one / next for one, next in pairwise(ratios)]
            name = f"the worst-served tenant, {noisy} noisy"
            parts.append(Part(name, ratios, nulls, target=1.15, at_least=False))
            pooled[f"all quiet tenants' jobs together, {noisy} noisy"] = median(
                _ratio(run, _quiet(system)) for run in runs
            )
    note = f"{NOISY_JOBS} jobs of {MILLISECONDS} ms for each noisy tenant, then {QUIET_JOBS} for each quiet one"
    return Outcome(parts, "ratio of p95 waits", {"note": note, **pooled})


def _quiet(system: System) -> list[str]:
    return system.homes[:QUIET_TENANTS]


def _run(system: System, noisy: int) -> list[Start]:
    system.empty()
    created = {}
    for home in system.homes[-noisy:]:
        created[home] = _queue(system, home, NOISY_JOBS)
    with system.awake():
        wait_until(lambda: system.database.count() >= UNDER_WAY, seconds=PATIENCE, what="flood under way")
        for home in _quiet(system):
            created[home] = _queue(system, home, QUIET_JOBS)
        quiet = QUIET_TENANTS * QUIET_JOBS
        wait_until(lambda: system.results(_quiet(system)) == quiet, seconds=PATIENCE, what="quiet jobs done")
        system.forget()
        wait_until(system.is_idle, seconds=PATIENCE, what="end of the flood")
    return [Start(home, created[home], began) for home in created for began in _starts(system, home)]


def _queue(system: System, home: str, times: int) -> float:
    """When they were committed, in seconds of the epoch."""
    system.call("map", task=TASK, homes=[home], times=times, seconds=MILLISECONDS / 1000)
    return time.time()


def _starts(system: System, home: str) -> list[float]:
    rows = system.database.sql(f"SELECT result FROM \"{home}\".{RESULTS} WHERE status = 'SUCCESS'")
    return [json.loads(result) for (result,) in rows]


def _ratio(starts: Sequence[Start], tenants: Sequence[str]) -> float:
    return _p95(starts, tenants) / _p95(ideal(starts), tenants)


def _p95(starts: Iterable[Start], tenants: Sequence[str]) -> float:
    return percentile([start.wait for start in starts if start.tenant in tenants], 95)


def noisy_alone(world: World) -> Outcome:
    """The noisy tenant with nobody else about, against the same with all its messages in the broker at once."""
    with world.tenantry(count=1) as system:
        _alone(system, gated=True)
        rounds = interleaved(lambda: _alone(system, gated=True), lambda: _alone(system, gated=False))
    part = compare("jobs a second", rounds, float, at_least=0.97)
    return Outcome([part], "times as many jobs a second", {"note": f"jobs of {MILLISECONDS} ms", **medians(rounds)})


def _alone(system: System, *, gated: bool) -> float:
    system.empty()
    _queue(system, system.homes[0], ALONE)
    if not gated:
        system.call("publish_all")
    return work_off(system, ALONE, results=ALONE)
