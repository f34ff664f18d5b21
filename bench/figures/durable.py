"""Durable jobs: what it takes to dispatch them, and to run them."""

from bench.measure import jobs_per_second, tasks_per_second
from bench.statistics import Outcome, Round, compare, interleaved, medians
from bench.system import System
from bench.world import World
from tests.peers.peer import tuned

TASK = "look_and_tell"
WARM_UP = 200
DRAINED = 800
DISPATCHED = 400
MAPPED = 1000


def durable_drain(world: World) -> Outcome:
    """Relay, claim, fence, result row, with the relay's CPU, against plain tuned tasks with stock result rows."""
    with world.tenantry() as ours:
        with world.plain_celery(**tuned()) as theirs:
            rounds = _drained(ours, theirs, rounds=7)
        # For the record: with fewer rows than the very same settings make, one for each task.
        with world.plain_celery(**{**tuned(), "CELERY_TASK_TRACK_STARTED": False}) as theirs:
            untracked = compare("", _drained(ours, theirs, rounds=3), float, at_least=0)
    part = compare("jobs a second", rounds, float, at_least=1.2)
    note = "the same task, with one SELECT and a result; the peer's stock rows tell that a task has started"
    detail = {"note": note, **medians(rounds), "against the peer without rows of starts": untracked.value}
    return Outcome([part], "times as many jobs a second", detail)


def _drained(ours: System, theirs: System, *, rounds: int) -> list[Round[float]]:
    def executed(times: int) -> float:
        return tasks_per_second(theirs, times, task=TASK, results=times)

    jobs_per_second(ours, WARM_UP), executed(WARM_UP)
    return interleaved(lambda: jobs_per_second(ours, DRAINED), lambda: executed(DRAINED), rounds=rounds)


def durable_dispatch(world: World) -> Outcome:
    """One job in a transaction that writes a row anyway, against plain `delay()` after the same transaction."""
    with world.tenantry(["worker"]) as ours, world.plain_celery() as theirs:
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
