"""Errors of the database that pass: the job is tried again, later each time, and says why; in the end it is dead."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery import shared_task
from celery.exceptions import Retry
from django.contrib.auth.models import Group
from django.core.signals import request_finished
from django.db import OperationalError, close_old_connections, connections, transaction
from django.db.utils import Error
from django_tenants.utils import schema_context
from pytest_django import Settings

from jobs.models import Job
from jobs.task import TenantTask
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.durables import atomic, bodies, groups, open, result_of, sql
from tests.people import at_once

RunJobs = Callable[..., int]
PASSING = [
    "40001",
    "40P01",
    "53100",
    "53200",
    "53300",
    "55P03",
    "57014",
    "25006",
    "57P01",
    "57P03",
    "08006",
    "57P05",
    "40003",
    "57P02",
    "08P01",
]
LASTING = ["23505", "22012", "25P03", "25P04", "42P01", "P0001", "57P04", "XX000"]
FAIL_WITH = """
    CREATE FUNCTION public.fail_with(state text) RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'as ordered' USING ERRCODE = state; END $$
"""

pytestmark = pytest.mark.usefixtures("committed_db", "_fail_with")


@pytest.fixture
def _fail_with(committed_db: None) -> Iterator[None]:
    sql(FAIL_WITH)
    yield
    sql("DROP FUNCTION public.fail_with(text)")


@shared_task(bind=True, autoretry_for=(OperationalError,), max_retries=1, retry_backoff=False, default_retry_delay=100)
def covered(self: TenantTask) -> Any:
    return bodies.current(self)


def dispatch(tenant: Tenant, task: Any) -> str:
    with schema_context(tenant.schema_name):
        return str(task.delay_on_commit())


def fail(state: str) -> None:
    sql("SELECT public.fail_with(%s)", state)


def fails_at_first(end: Callable[[], Any]) -> None:
    """A body with an effect, whose first attempt ends so."""
    attempts: list[int] = []

    def body(task: TenantTask) -> str:
        attempts.append(1)
        Group.objects.create(name="effect")
        if len(attempts) == 1:
            end()
        return "fine"

    bodies(body)


@pytest.mark.parametrize("state", PASSING)
def test_what_passes_lets_the_job_run_again(acme: Tenant, run_jobs: RunJobs, state: str) -> None:
    fails_at_first(lambda: fail(state))
    job_id = dispatch(acme, atomic)
    run_jobs()
    job = Job.objects.get()
    assert (job.state, job.transients, job.retries, job.kills) == ("waiting", 1, 0, 0)
    assert job.error
    assert "as ordered" in job.traceback
    assert groups(acme.schema_name) == []

    run_jobs(ahead=True)
    assert result_of(acme.schema_name, job_id).result == '"fine"'
    assert groups(acme.schema_name) == ["effect"]


FAIL = "SELECT public.fail_with('40001')"


def by_a_named_cursor() -> None:
    with connection.connection.cursor(name="named") as cursor:
        cursor.execute(FAIL)
        cursor.fetchall()


def by_copy() -> None:
    with connection.connection.cursor().copy(f"COPY ({FAIL}) TO STDOUT") as copy:
        list(copy)


CURSORS: dict[str, Callable[[], Any]] = {
    "a named cursor": by_a_named_cursor,
    "a cursor made by hand": lambda: psycopg.ClientCursor(connection.connection).execute(FAIL),
    "COPY": by_copy,
    "stream()": lambda: list(connection.connection.cursor().stream(FAIL)),
    "executemany()": lambda: connection.connection.cursor().executemany(
        "SELECT public.fail_with(%s)", [("40001",), ("40001",)]
    ),
}


@pytest.mark.parametrize("cursor", CURSORS)
def test_what_passes_does_so_whatever_cursor_it_comes_by(acme: Tenant, run_jobs: RunJobs, cursor: str) -> None:
    fails_at_first(CURSORS[cursor])
    dispatch(acme, atomic)
    run_jobs()
    assert (Job.objects.get().state, Job.objects.get().transients) == ("waiting", 1)


@pytest.mark.parametrize("state", LASTING)
def test_what_does_not_pass_is_the_jobs_death(acme: Tenant, run_jobs: RunJobs, state: str) -> None:
    fails_at_first(lambda: fail(state))
    dispatch(acme, atomic)
    run_jobs()
    assert (Job.objects.get().state, groups(acme.schema_name)) == ("dead", [])


def test_what_another_database_says_does_not_count(acme: Tenant, run_jobs: RunJobs) -> None:
    def ask_another() -> None:
        at_once(lambda: fail("40001"))

    fails_at_first(ask_another)
    dispatch(acme, atomic)
    run_jobs()
    assert Job.objects.get().state == "dead"


def test_an_error_that_a_savepoint_has_dealt_with_does_not_excuse_a_later_one(acme: Tenant, run_jobs: RunJobs) -> None:
    def swallow_and_fail() -> None:
        try:
            fail("40001")
        except Error as error:
            fault = error
        raise ValueError("a mistake") from fault

    fails_at_first(swallow_and_fail)
    dispatch(acme, atomic)
    run_jobs()
    assert Job.objects.get().state == "dead"


BREAKAGES: dict[str, Callable[[], Any]] = {
    "error": lambda: fail("40P01"),
    "its session ended": lambda: sql("SELECT pg_terminate_backend(pg_backend_pid())"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_never_passes_is_dead_at_last_with_the_reason(
    acme: Tenant, run_jobs: RunJobs, settings: Settings, breakage: str
) -> None:
    settings.JOB_MAX_TRANSIENT = 3
    bodies(lambda task: BREAKAGES[breakage]())
    dispatch(acme, atomic)
    for times in (1, 2, 3):
        run_jobs(ahead=True, limit=1)
        job = Job.objects.get()
        assert (job.state, job.transients) == ("waiting", times)
        assert job.error
    run_jobs(ahead=True, limit=1)
    job = Job.objects.get()
    assert (job.state, job.attempt) == ("dead", 4)
    assert job.error


def in_an_audit() -> None:
    try:
        fail("40P01")
    except Error:
        swallow("INSERT INTO auth_group (name) VALUES ('audit')")  # the transaction has failed
        raise


def after_a_savepoint() -> None:
    try:
        with transaction.atomic():
            fail("40P01")
    except Error as deadlock:
        with suppress(Error), transaction.atomic():
            fail("23505")
        raise deadlock from deadlock.__cause__


def after_another() -> None:
    swallow_in_savepoint("40001")
    fail("40P01")


def swallow_in_savepoint(state: str) -> None:
    with suppress(Error), transaction.atomic():
        fail(state)


def in_a_group() -> None:
    try:
        fail("40P01")
    except Error as deadlock:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("inner", [deadlock])]) from None


def in_coroutines() -> None:
    async def write() -> None:
        await sync_to_async(fail)("40001")

    async def body() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())

    async_to_sync(body)()


@pytest.mark.parametrize("end", [in_an_audit, after_a_savepoint, after_another, in_a_group, in_coroutines])
def test_what_passes_does_so_whatever_else_has_failed(acme: Tenant, run_jobs: RunJobs, end: Callable[[], None]) -> None:
    fails_at_first(end)
    dispatch(acme, atomic)
    run_jobs()
    assert (Job.objects.get().state, Job.objects.get().transients) == ("waiting", 1)


def among_its_own_errors() -> None:
    try:
        fail("40P01")
    except Error as deadlock:
        raise ExceptionGroup("two", [deadlock, ValueError("a bug")]) from None


def test_a_group_passes_if_all_of_it_does(acme: Tenant, run_jobs: RunJobs) -> None:
    fails_at_first(among_its_own_errors)
    dispatch(acme, atomic)
    run_jobs()
    assert (Job.objects.get().state, Job.objects.get().transients) == ("dead", 0)


CLOSINGS: dict[str, Callable[[], Any]] = {
    "close_old_connections()": close_old_connections,
    "close_all()": lambda: connections.close_all(),
    "close()": lambda: connection.close(),
    "request_finished": lambda: request_finished.send(None),
}


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_body_that_closes_its_session_is_no_outage(
    acme: Tenant, run_jobs: RunJobs, monkeypatch: pytest.MonkeyPatch, closing: str, goes_on: bool
) -> None:
    def body(task: TenantTask) -> None:
        Group.objects.create(name="effect")
        CLOSINGS[closing]()
        if goes_on:
            sql("SELECT 1")

    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    bodies(body)
    dispatch(acme, atomic)
    run_jobs(ahead=True)
    job = Job.objects.get()
    assert (job.state, job.attempt, job.transients) == ("dead", 1, 0)
    assert ":" in job.error
    assert groups(acme.schema_name) == []


def test_a_body_that_reads_only_does_not_try_for_hours(acme: Tenant, run_jobs: RunJobs) -> None:
    """A server that reads only for a while could not have noted its attempts."""
    bodies(lambda task: fail("25006"))
    dispatch(acme, atomic)
    run_jobs(ahead=True)
    job = Job.objects.get()
    assert (job.state, job.attempt) == ("dead", 3)


LEFT_ON: dict[str, Callable[[], Any]] = {
    "reading only": lambda: sql("SET default_transaction_read_only = on"),
    "psycopg's": lambda: setattr(connection.connection, "read_only", True),
    "a limit": lambda: sql("SET statement_timeout = 1"),
    "a search path": lambda: sql("SET search_path = nowhere"),
}


@pytest.mark.parametrize("setting", LEFT_ON)
def test_what_a_body_has_set_is_not_for_the_end_of_its_job(acme: Tenant, run_jobs: RunJobs, setting: str) -> None:
    def body(task: TenantTask) -> str:
        sql("SELECT 1")
        LEFT_ON[setting]()
        return "done"

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert '"attempts": 1' in (result_of(acme.schema_name, job_id).meta or "")
    assert result_of(acme.schema_name, job_id).status == "SUCCESS"


def test_a_retry_policy_comes_first_and_has_the_last_word(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: fail("40P01"))
    dispatch(acme, covered)
    run_jobs()
    job = Job.objects.get()
    assert (job.state, job.retries, job.transients) == ("waiting", 1, 0)
    run_jobs(ahead=True, limit=1)
    job = Job.objects.get()
    assert (job.state, job.retries, job.transients) == ("dead", 1, 0)


def test_a_retry_made_by_hand_has_the_last_word_too(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        try:
            fail("40P01")
        except OperationalError as error:
            raise Retry(exc=error, when=0) from None

    bodies(body)
    dispatch(acme, atomic)
    run_jobs(ahead=True, limit=9)
    job = Job.objects.get()
    assert (job.state, job.retries, job.transients, job.error) == ("dead", 2, 0, "OperationalError: SQLSTATE 40P01")


def after_the_call(task: TenantTask) -> None:
    fail("40001")


def before_the_call(task: TenantTask) -> None:
    with task.before_call():
        fail("40001")


def in_the_completion(task: TenantTask) -> None:
    with task.completion():
        fail("40001")


@pytest.mark.parametrize(
    ("body", "state"), [(after_the_call, "dead"), (before_the_call, "waiting"), (in_the_completion, "waiting")]
)
def test_a_call_is_not_repeated_unless_the_body_says_that_it_made_none(
    acme: Tenant, run_jobs: RunJobs, body: Callable[[TenantTask], None], state: str
) -> None:
    bodies(body)
    dispatch(acme, open)
    run_jobs()
    assert Job.objects.get().state == state


def test_a_completion_waits_for_the_database(acme: Tenant, run_jobs: RunJobs) -> None:
    """What was called must not be called again because of an outage meanwhile."""

    def body(task: TenantTask) -> None:
        [[pid]] = sql("SELECT pg_backend_pid()")
        at_once(lambda: sql("SELECT pg_terminate_backend(%s, 5000)", pid))
        with task.completion():
            Group.objects.create(name="effect")

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert '"attempts": 1' in (result_of(acme.schema_name, job_id).meta or "")
    assert groups(acme.schema_name) == ["effect"]


def swallow(statement: str) -> None:
    with suppress(Error):
        sql(statement)


@pytest.mark.parametrize("completes", [True, False])
def test_a_body_that_saw_its_session_end_completes_on_another_one(
    acme: Tenant, run_jobs: RunJobs, completes: bool
) -> None:
    """It has made its call, and looked away from the error."""

    def body(task: TenantTask) -> None:
        swallow("SELECT pg_terminate_backend(pg_backend_pid())")
        swallow("SELECT 1")
        if completes:
            with task.completion():
                Group.objects.create(name="effect")

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert '"attempts": 1' in (result_of(acme.schema_name, job_id).meta or "")
    assert groups(acme.schema_name) == (["effect"] if completes else [])


def leave_autocommit_off(task: TenantTask) -> None:
    transaction.set_autocommit(False)
    Group.objects.create(name="never committed")


def leave_a_transaction_open(task: TenantTask) -> None:
    sql("BEGIN")
    Group.objects.create(name="never committed")


def complete_in_a_transaction(task: TenantTask) -> None:
    transaction.set_autocommit(False)
    with task.completion():
        Group.objects.create(name="never committed")


@pytest.mark.parametrize("body", [leave_autocommit_off, leave_a_transaction_open, complete_in_a_transaction])
def test_a_transaction_that_a_body_leaves_open_is_the_jobs_death_with_that_reason(
    acme: Tenant, run_jobs: RunJobs, body: Callable[[TenantTask], None]
) -> None:
    bodies(body)
    dispatch(acme, open)
    run_jobs()
    job = Job.objects.get()
    assert (job.state, job.attempt, groups(acme.schema_name)) == ("dead", 1, [])
    assert "transaction" in job.error
