"""Whether a statement's cost follows the number of jobs that have passed."""

import time
from contextlib import closing
from operator import itemgetter
from statistics import median

import psycopg

from bench.statistics import Outcome, Part, compare, interleaved
from bench.system import System
from bench.world import World
from devstack import DevstackError

STATEMENTS = ("dispatch", "trigger", "WAKE", "MARK")
PASSED = 200_000
ROUNDS = 3
SAMPLES = 30
TARGET = 1.5
SECONDS = 60
PATIENCE = 180

# Seconds of each statement.
Costs = dict[str, float]


def steady(world: World) -> Outcome:
    """Statement time with 200,000 jobs gone by under somebody's old snapshot, against where none has; and afterwards.

    The jobs are dispatched and marked by the product. Claims and ends are stand-ins, a thousand jobs at once, which
    leave as many dead rows and index entries. A relay listens and is idle, so each dispatch notifies it.
    """
    with world.tenantry([]) as system, world.tenantry([], name="fresh") as fresh:
        for each in (system, fresh):
            each.call("play_relay", is_busy=False)
            _look(each)
        with closing(_old_snapshot(system)):
            passing = _let_jobs_pass(system)
            rounds = interleaved(lambda: _look(system), lambda: _look(fresh), rounds=ROUNDS)
            size = system.database.size("public.jobs_job")
        seconds, last = _wait_until_back(system, fresh)
    parts = [compare(name, rounds, itemgetter(name), at_most=TARGET) for name in STATEMENTS]
    parts.append(Part("seconds until all are back", [seconds], [1], SECONDS, at_least=False))
    costs = {
        f"{name}, µs, ours and theirs": [
            1e6 * median(round.ours[name] for round in rounds),
            1e6 * median(round.theirs[name] for round in rounds),
        ]
        for name in STATEMENTS
    }
    detail = {
        "note": f"{PASSED} jobs; by the server's clock, the median of {SAMPLES}; stand-ins for claims and ends",
        **costs,
        "ratios when they are back": last,
        "outbox under the snapshot, MB": size / 1e6,
        "seconds for the jobs to pass": passing,
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


def _let_jobs_pass(system: System) -> float:
    began = time.monotonic()
    system.call("let_pass", homes=system.homes, times=PASSED)
    seconds = time.monotonic() - began
    if not system.is_idle():
        raise DevstackError("some jobs have not passed")
    return seconds


def _wait_until_back(system: System, fresh: System) -> tuple[float, Costs]:
    """Seconds until no statement takes much longer than where no jobs have passed, and the ratios then."""
    began = time.monotonic()
    while True:
        ours, theirs = _look(system), _look(fresh)
        seconds = time.monotonic() - began
        ratios = {name: ours[name] / theirs[name] for name in STATEMENTS}
        if seconds > PATIENCE or all(ratio <= TARGET for ratio in ratios.values()):
            return seconds, ratios
