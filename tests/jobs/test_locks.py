"""Who waits for whom: a tenant's lock comes before its jobs' rows, and what takes many rows waits for none of them."""

from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from django.db import transaction

from jobs import endings
from jobs.claim import NO_TOKEN, Lease
from jobs.endings import LeaseLost
from jobs.models import Job
from jobs.relay import line, maintenance
from jobs.relay.statements import CANCEL_WAITING
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.claims import change, completing, dispatch, held, lock_out
from tests.jobs.conftest import eventually
from tests.jobs.durables import PARKING, sql
from tests.people import at_once

# Of this database: the server has others, whose tests run meanwhile.
WAITS = """
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
"""


def enter_completion(lease: Lease) -> bool:
    with pytest.raises(LeaseLost), completing(lease):
        pass
    return False


def replay(lease: Lease) -> bool:
    at_once(lambda: change(lease.id, "state = 'dead'"))
    return endings.replay(Job.objects.get())


ENDINGS: dict[str, Callable[[Lease], bool]] = {
    "completion": enter_completion,
    "death": lambda lease: endings.dead_letter(lease, ValueError()),
    "end": lambda lease: endings.ignore(lease, reason=""),
    "replay": replay,
}


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_that_waits_for_a_deletion_holds_no_row(acme: Tenant, ending: str) -> None:
    lease = held(dispatch(acme))
    dropping = Event()

    def end() -> bool:
        assert dropping.wait(10)
        return ENDINGS[ending](lease)

    def drop() -> None:
        with transaction.atomic():
            assert lock_out(acme)
            dropping.set()
            eventually(lambda: sql(WAITS), "it waits")
            sql("SET LOCAL lock_timeout = '1s'")
            sql("DELETE FROM public.jobs_job")

    assert at_once(end, drop) == [False, None]


def cancel_waiting() -> None:
    with connection.cursor() as cursor:
        cursor.execute(CANCEL_WAITING, {"tenant": str(Tenant.objects.get(slug="acme").id), "batch": 10})


PARKED = f"tag = NULL, next_send_at = {PARKING}"
# What a row is like that the statement is about, and who has it run.
BULK: dict[str, tuple[str, Callable[[], Any]]] = {
    "wake": ("tag = NULL", line.wake),
    "mark": ("tag = 1", lambda: line.mark(10)),
    "unpark": (PARKED, maintenance.run_maintenance),
    "forget": (f"tenant_id = '{NO_TOKEN}', {PARKED}", maintenance.run_maintenance),
    "cancel": ("tag = 1", cancel_waiting),
    "prune": ("state = 'dead', tag = NULL, died_at = '2000-01-01'", maintenance.run_maintenance),
}


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("statement", BULK)
def test_what_takes_many_rows_leaves_out_those_that_are_locked(acme: Tenant, statement: str) -> None:
    """Who waits for no row is part of no deadlock."""
    locked, free = dispatch(acme), dispatch(acme)
    like, run = BULK[statement]
    for job_id in (locked, free):
        change(job_id, like)
    before = rows()

    def run_impatiently() -> None:
        sql("SET lock_timeout = '1s'")
        run()

    with transaction.atomic():
        sql("SELECT FROM public.jobs_job WHERE id = %s FOR UPDATE", locked)
        at_once(run_impatiently)
    after = rows()
    assert [job_id for job_id in before if after.get(job_id) != before[job_id]] == [free]


def rows() -> dict[str, Any]:
    return {str(row["id"]): row for row in Job.objects.values()}
