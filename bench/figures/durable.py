"""Durable jobs: what it takes to dispatch them, and to run them."""

from statistics import median

from bench.measure import jobs_per_second, tasks_per_second, work_off
from bench.statistics import Outcome, compare, interleaved, medians
from bench.system import System
from bench.world import World
from tests.peers.peer import tuned

TASK = "look_and_tell"
WARM_UP = 200
DRAINED = 800
DISPATCHED = 400
MAPPED = 1000


def durable_drain(world: World) -> Outcome:
    """Relay, claim, fence, result row, with the relay's CPU, against plain tuned tasks with stock result rows.

    Two peers: one with the very same settings, whose rows also tell that a task has started, and one that writes its
    row once, with the task's result. To be as fast as that one is wanted, and not reached, so it is reported.
    """
    untracked = {**tuned(), "CELERY_TASK_TRACK_STARTED": False}
    with (
        world.tenantry() as ours,
        world.plain_celery(**tuned()) as same,
        world.plain_celery("untracked", **untracked) as one_row,
    ):

        def drained(times: int = DRAINED) -> tuple[float, float]:
            rate = jobs_per_second(ours, times)
            return rate, rate

        def executed(times: int = DRAINED) -> tuple[float, float]:
            return _executed(same, times), _executed(one_row, times)

        drained(WARM_UP), executed(WARM_UP)
        rounds = interleaved(drained, executed)
        written = _written(ours)
    parts = [
        compare("against the very same settings", rounds, lambda rates: rates[0], at_least=1.2),
        compare("against one row a task", rounds, lambda rates: rates[1]),
    ]
    rates = {
        "ours": median(round.ours[0] for round in rounds),
        "theirs": median(round.theirs[0] for round in rounds),
        "theirs, one row": median(round.theirs[1] for round in rounds),
    }
    note = "the same task, with one SELECT and a result"
    return Outcome(parts, "times as many jobs a second", {"note": note, **rates, **written})


def _executed(peer: System, times: int) -> float:
    return tasks_per_second(peer, times, task=TASK, results=times)


def _written(system: System) -> dict[str, float]:
    """What PostgreSQL writes for a job, in one more drain. Commits at the same time may share a flush."""
    database = system.database
    system.empty()
    began = database.wal()
    system.call("insert", task=TASK, homes=system.homes, times=DRAINED)
    dispatched = database.wal()
    flushes = database.flushes()
    work_off(system, DRAINED, results=DRAINED)
    ended = database.wal()
    flushes = database.flushes() - flushes
    return {
        "WAL of a dispatch, bytes": (dispatched - began) / DRAINED,
        "WAL of a run, bytes": (ended - dispatched) / DRAINED,
        "flushes of a run": flushes / DRAINED,
        "outbox after the drain, bytes a job": database.size("public.jobs_job") / DRAINED,
    }


def durable_dispatch(world: World) -> Outcome:
    """One job in a transaction that writes a row anyway, against plain `delay()` after the same transaction.

    As under load, where a relay is busy, and dispatches need not wake it: the driver holds what a busy relay holds.
    """
    with world.tenantry(["worker"]) as ours, world.plain_celery() as theirs:
        ours.call("play_relay", is_busy=True)
        rounds = interleaved(
            lambda: _dispatched(ours, "after_a_row", DISPATCHED, durable=True),
            lambda: _dispatched(theirs, "after_a_row", DISPATCHED, durable=False),
        )
    part = compare("dispatches a second", rounds, float, at_least=1.3)
    note = "transaction and dispatch together, one after the other in one process, for one tenant"
    return Outcome([part], "times as many a second", {"note": note, **medians(rounds)})


def map_on_commit(world: World) -> Outcome:
    """1,000 jobs in one transaction, against 1,000 plain `delay()`."""
    with world.tenantry(["worker"]) as ours, world.plain_celery() as theirs:
        rounds = interleaved(lambda: _dispatched(ours, "map", MAPPED), lambda: _dispatched(theirs, "delay", MAPPED))
    part = compare("dispatches a second", rounds, float, at_least=15)
    return Outcome([part], "times as many a second", medians(rounds))


def _dispatched(system: System, call: str, times: int, **arguments: bool) -> float:
    """A second; for one tenant, whose worker sleeps."""
    system.empty()
    system.call(call, task=TASK, homes=system.homes[:1], times=times // 10, **arguments)
    seconds: float = system.call(call, task=TASK, homes=system.homes[:1], times=times, **arguments)
    system.check_dispatched(times // 10 + times)
    return times / seconds
