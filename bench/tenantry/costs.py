"""What dispatch and relay cost the server by its own clock, and jobs that pass by: for the figure `steady`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from bench.work.calls import at, turns
from bench.work.tasks import look
from jobs.relay.line import BATCH, Due, mark, wake
from jobs.relay.process import planning_by_index
from tenants.connection import connection, execute

# Seconds
LATER = 0.001
# So many of a look's jobs are taken out of the line at once: with each sample one is woken, and two were there before.
ROOM = 3
# Stand-ins for the claims and the ends of many jobs. They leave the versions and index entries that those leave.
CLAIM_ALL = """
    UPDATE public.jobs_job SET
        attempt = attempt + 1, token = gen_random_uuid(), tag = NULL,
        lease_until = clock_timestamp() + interval '15 seconds', deadline = clock_timestamp() + interval '40 seconds',
        next_send_at = clock_timestamp() + interval '15 seconds'
    WHERE id = ANY(%s)
"""
COMPLETE_ALL = "DELETE FROM public.jobs_job WHERE id = ANY(%s)"

Execute = Callable[..., Any]


def statement_costs(homes: Sequence[str], times: int) -> dict[str, list[float]]:
    """Seconds on the server of so many dispatches, of their triggers, of WAKEs and of MARKs."""
    costs: dict[str, list[float]] = {name: [] for name in ("dispatch", "trigger", "WAKE", "MARK")}
    for home in turns(homes, times):
        with at(home), _timed(costs["dispatch"]), transaction.atomic():
            look.delay_on_commit(home)
        with at(home), connection.execute_wrapper(_explained(costs["trigger"])), transaction.atomic():
            look.delay_on_commit(home)
    with planning_by_index():
        for home in turns(homes, times):
            _dispatch_later(home)
            with _timed(costs["WAKE"]):
                wake()
            with _timed(costs["MARK"]):
                jobs = mark(ROOM)
            _run(jobs)
        _run_all()
    return costs


def let_pass(homes: Sequence[str], times: int) -> None:
    """So many jobs: dispatched and marked by the product, claimed and ended by stand-ins, a thousand at once."""
    with planning_by_index():
        for _ in range(times // BATCH):
            for home in homes:
                with at(home), transaction.atomic():
                    look.map_on_commit([[home]] * (BATCH // len(homes)))
            wake()
            _run_all()


def _dispatch_later(home: str) -> None:
    with at(home), transaction.atomic():
        look.apply_async_on_commit((home,), countdown=LATER)
    time.sleep(2 * LATER)


def _run_all() -> None:
    while jobs := mark(BATCH):
        _run(jobs)


def _run(jobs: Sequence[Due]) -> None:
    ids = [job.id for job in jobs]
    execute(CLAIM_ALL, [ids])
    execute(COMPLETE_ALL, [ids])


@contextmanager
def _timed(costs: list[float]) -> Iterator[None]:
    """Add what the statements that are executed meanwhile cost together."""
    seconds: list[float] = []

    def timed(execute: Execute, statement: str, parameters: Any, many: bool, context: dict[str, Any]) -> Any:
        cursor = context["cursor"].cursor
        clocked = f"SELECT clock_timestamp(); {statement}; SELECT clock_timestamp()"
        returned = execute(clocked, parameters, many, context)
        [began] = cursor.fetchone()
        [ended] = cursor.set_result(-1).fetchone()
        seconds.append((ended - began).total_seconds())
        # What the caller wanted to see
        cursor.set_result(1)
        return returned

    with connection.execute_wrapper(timed):
        yield
    costs.append(sum(seconds))


def _explained(costs: list[float]) -> Execute:
    """Adds what a statement's triggers cost."""

    def explained(execute: Execute, statement: str, parameters: Any, many: bool, context: dict[str, Any]) -> Any:
        returned = execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters, many, context)
        [[[told]]] = context["cursor"].fetchall()
        costs.append(sum(trigger["Time"] for trigger in told["Triggers"]) / 1000)
        return returned

    return explained
