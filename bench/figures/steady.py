"""Whether a statement's cost follows the number of jobs that have passed."""

import time
from contextlib import closing
from itertools import pairwise
from statistics import median

import psycopg

from bench.statistics import Outcome, Part
from bench.system import System
from bench.world import World
from devstack import DevstackError

PASSED = 200_000
LOOKS = 3
SAMPLES = 30
TARGET = 1.5
SECONDS = 60
PATIENCE = 180

# Seconds of each statement.
Costs = dict[str, float]


def steady(world: World) -> Outcome:
    """Statement time with 200,000 jobs gone by under somebody's old snapshot, against before; and once that is gone.

    The jobs are dispatched and marked by the product. Claims and ends are stand-ins, a thousand jobs at once, which
    leave as many dead rows and index entries. The relay sleeps while it listens, so each dispatch notifies it.
    """
    with world.tenantry(["relay"]) as system:
        _look(system)
        before = [_look(system) for _ in range(LOOKS)]
        with closing(_old_snapshot(system)):
            began = time.monotonic()
            system.call("let_pass", homes=system.homes, times=PASSED)
            passing = time.monotonic() - began
            if not system.is_idle():
                raise DevstackError("some jobs have not passed")
            held = [_look(system) for _ in range(LOOKS)]
            size = system.database.size("public.jobs_job")
        seconds, after = _wait_until_back(system, before)
    parts = [_part(name, before, held) for name in before[0]]
    parts.append(Part("seconds until all are back, without the snapshot", [seconds], [1], SECONDS, at_least=False))
    detail = {
        "note": f"{PASSED} jobs; the server's clock around each statement, the median of {SAMPLES}; claims and ends "
        "are stand-ins for many jobs at once",
        "outbox, MB": size / 1e6,
        "seconds for the jobs to pass": passing,
        **{
            f"{name}, µs, before, held and after": [
                1e6 * median(look[name] for look in looks) for looks in (before, held, [after])
            ]
            for name in before[0]
        },
    }
    return Outcome(parts, "ratio of statement time", detail)


def _look(system: System) -> Costs:
    costs = system.call("statement_costs", homes=system.homes, times=SAMPLES)
    return {name: median(seconds) for name, seconds in costs.items()}


def _old_snapshot(system: System) -> psycopg.Connection:
    """A transaction that sees the outbox as it is now: a long report's, or a dump's, whose role has no time limits."""
    connection = psycopg.connect(system.database.postgres.superuser_url(system.database.name))
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SELECT FROM public.jobs_job LIMIT 1")
    return connection


def _wait_until_back(system: System, before: list[Costs]) -> tuple[float, Costs]:
    began = time.monotonic()
    while True:
        costs = _look(system)
        seconds = time.monotonic() - began
        if seconds > PATIENCE or all(_ratio(name, costs, before) <= TARGET for name in costs):
            return seconds, costs


def _ratio(name: str, costs: Costs, before: list[Costs]) -> float:
    return costs[name] / median(look[name] for look in before)


def _part(name: str, before: list[Costs], held: list[Costs]) -> Part:
    return Part(
        name,
        values=[_ratio(name, costs, before) for costs in held],
        nulls=[one[name] / next[name] for one, next in pairwise(before)],
        target=TARGET,
        at_least=False,
    )
