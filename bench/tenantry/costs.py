"""What dispatch and relay cost the server by its own clock, and jobs that pass by: for the figure `steady`."""

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from celery.app import app_or_default
from django.conf import settings
from django.db import transaction

from bench.work.calls import at, turns
from bench.work.tasks import look
from jobs import statements
from jobs.relay.line import BATCH, Due
from jobs.relay.process import Relay, planning_by_index
from jobs.relay.publisher import Publisher
from jobs.relay.statements import MARK, WAKE
from tenants.connection import connection, execute

NAMES = {statements.INSERT: "dispatch", WAKE: "WAKE", MARK: "MARK"}
# Seconds
LATER = 0.001
# Jobs of a look that the relay sends at once. Each sample dispatches two, and one for later.
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
Costs = dict[str, list[float]]


class Workers(Publisher):
    """In the place of broker and workers: what is published is claimed and completed, all of it at once."""

    #: Jobs that they take at once
    depth = BATCH

    def room(self) -> int:
        return self.depth

    def publish(self, due: Sequence[Due]) -> None:
        ids = [job.id for job in due]
        execute(CLAIM_ALL, [ids])
        execute(COMPLETE_ALL, [ids])


@cache
def the_relay() -> Relay:
    """What it knows of the line stays from one call to the next."""
    app: Any = app_or_default()
    return Relay(Workers(app, app.send_job))


def let_pass(homes: Sequence[str], times: int) -> None:
    """So many jobs, a thousand at a time."""
    Workers.depth = BATCH
    with planning_by_index():
        for _ in range(times // BATCH):
            with transaction.atomic():
                for home in homes:
                    with at(home):
                        look.map_on_commit([[home]] * (BATCH // len(homes)))
            _relay_all()


def statement_costs(homes: Sequence[str], times: int) -> Costs:
    """Seconds that the server takes: for so many dispatches, the triggers of others, and the WAKE and MARK of ticks."""
    costs: Costs = {name: [] for name in (*NAMES.values(), "trigger")}
    for home in turns(homes, times):
        with at(home), connection.execute_wrapper(_clocked(costs)), transaction.atomic():
            look.delay_on_commit(home)
        with at(home), connection.execute_wrapper(_explained(costs["trigger"])), transaction.atomic():
            # Not by the function that a dispatch of one is, of which nothing is explained.
            look.map_on_commit([[home]])
    Workers.depth = ROOM
    with planning_by_index():
        for home in turns(homes, times):
            with at(home), transaction.atomic():
                look.apply_async_on_commit((home,), countdown=LATER)
            # Until the relay wakes what is due.
            time.sleep(settings.RELAY_IDLE_POLL)
            with connection.execute_wrapper(_clocked(costs)):
                the_relay().tick()
        _relay_all()
    return costs


def _relay_all() -> None:
    while the_relay().tick():
        pass


def _clocked(costs: Costs) -> Execute:
    """Asks the server's clock before and after the statements that have names."""

    def clocked(execute: Execute, statement: str, parameters: Any, many: bool, context: dict[str, Any]) -> Any:
        if statement not in NAMES:
            return execute(statement, parameters, many, context)
        cursor = context["cursor"].cursor
        three = f"SELECT clock_timestamp(); {statement}; SELECT clock_timestamp()"
        returned = execute(three, parameters, many, context)
        [began] = cursor.fetchone()
        [ended] = cursor.set_result(-1).fetchone()
        costs[NAMES[statement]].append((ended - began).total_seconds())
        # What the caller wants to see
        cursor.set_result(1)
        return returned

    return clocked


def _explained(seconds: list[float]) -> Execute:
    """Asks the server what a statement's triggers cost."""

    def explained(execute: Execute, statement: str, parameters: Any, many: bool, context: dict[str, Any]) -> Any:
        if statement != statements.INSERT_MANY:
            return execute(statement, parameters, many, context)
        returned = execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters, many, context)
        [[[told]]] = context["cursor"].fetchall()
        seconds.append(sum(trigger["Time"] for trigger in told["Triggers"]) / 1000)
        return returned

    return explained
