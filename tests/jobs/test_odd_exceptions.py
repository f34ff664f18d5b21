"""Whatever a body raises, its job ends and can be read, by its tenant and, with the drivers' texts, by staff."""

import json
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from celery import current_app, shared_task
from celery.exceptions import ChordError, Ignore, Reject
from celery.result import AsyncResult
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, transaction
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from jobs.celery_hooks.tracing import trace
from jobs.errors import TOLD
from jobs.message import HEADER
from jobs.models import Job
from jobs.task import TenantTask
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.claims import dispatch
from tests.jobs.deaths import JOB_ID, NAN, dead, member_of, raising
from tests.jobs.durables import atomic, bodies, open, result_of, sql
from tests.jobs.hostile import DeadlyToPrint, DeadlyToRead, DeadlyToWrite
from tests.people import add_staff, add_user, client_of, client_of_staff

RunJobs = Callable[..., int]


# Exceptions


class Hostile(Exception):
    """Nothing that it is asked works."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __reduce__ = __str__

    @property
    def args(self) -> Any:  # type: ignore[override]  # hostile
        raise RuntimeError


def syntax_error() -> SyntaxError:
    error = SyntaxError("odd")
    error.filename, error.lineno, error.offset, error.text = "f", "no number", "x", 7  # type: ignore[assignment]  # odd
    return error


def endless_cause() -> Exception:
    error = ValueError("0")
    for number in range(2000):
        outer = ValueError(str(number))
        outer.__cause__ = error
        error = outer
    return error


EXCEPTIONS: dict[str, Callable[[], Exception]] = {
    "hostile": Hostile,
    "odd syntax": syntax_error,
    "gigantic": lambda: ValueError("x" * 20_000_000),
    "many arguments": lambda: ValueError(*range(1_000_000)),
    "NUL": lambda: ValueError("a\0b", {"\0": "\0"}),
    "surrogates": lambda: ValueError("\ud800" * 5000),
    "NaN": lambda: ValueError(NAN),
    "causes": endless_cause,
    "deadly to print": DeadlyToPrint,
    "deadly to write": DeadlyToWrite,
    "deadly to read": DeadlyToRead,
    "a group": lambda: ExceptionGroup("many", [ValueError("\0"), Hostile()]),
    "a class that is gone": lambda: type("Gone" * 100, (Exception,), {"__module__": None})("x"),
    "rejected": lambda: Reject("\0\ud800", requeue=False),
}


@pytest.mark.parametrize("task", [atomic, open], ids=["atomic", "open"])
@pytest.mark.parametrize("case", EXCEPTIONS)
def test_whatever_a_body_raises_it_is_dead_and_can_be_read(
    acme: Tenant, run_jobs: RunJobs, case: str, task: TenantTask
) -> None:
    job = dead(acme, raising(EXCEPTIONS[case]()), run_jobs, task=task)
    assert 0 < len(job.error) <= 20_000
    assert 0 < len(job.traceback) <= 200_000
    client = member_of(acme)
    assert client.get(f"/api/v1/jobs/{job.id}/").json()["error"] == job.error
    Job.objects.all().delete()
    assert client.get(f"/api/v1/jobs/{job.id}/").json()["error"] == job.error
    assert len(result_of(acme.schema_name, str(job.id)).result) <= 200_000
    with schema_context(acme.schema_name), suppress(Exception):
        AsyncResult(str(job.id), app=current_app).get(timeout=1, propagate=False)


@pytest.mark.parametrize("case", EXCEPTIONS)
def test_whatever_a_body_retries_for_it_waits_and_can_be_read(acme: Tenant, run_jobs: RunJobs, case: str) -> None:
    bodies(lambda task: task.retry(exc=EXCEPTIONS[case](), countdown=60))
    job_id = dispatch(acme)
    run_jobs(limit=1)
    job = Job.objects.get()
    assert (job.state, job.token, job.retries) == ("waiting", None, 1)
    assert member_of(acme).get(f"/api/v1/jobs/{job_id}/").json()["error"] == job.error


@pytest.mark.parametrize(
    "reason", ["\0", "\ud800", "x" * 3_000_000, Hostile(), NAN], ids=["NUL", "surrogate", "huge", "hostile", "NaN"]
)
def test_whatever_it_is_ignored_for_it_has_ended(acme: Tenant, run_jobs: RunJobs, reason: Any) -> None:
    bodies(raising(Ignore(reason)))
    job_id = dispatch(acme)
    run_jobs(limit=1)
    assert member_of(acme).get(f"/api/v1/jobs/{job_id}/").json()["state"] == "ignored"


# Whose eyes


def unique_violation(task: TenantTask) -> None:
    Group.objects.create(name="a secret of the database")
    Group.objects.create(name="a secret of the database")


def raw_error(task: TenantTask) -> None:
    psycopg.connect("host=secret.example dbname=secret connect_timeout=1")


def redis_error(task: TenantTask) -> None:
    raise redis.ConnectionError("Error 111 connecting to secret.example:6379")


def in_the_admin(job: Job) -> str:
    return client_of_staff(add_staff()).get(f"/admin/jobs/job/{job.pk}/change/").content.decode()


DRIVERS: dict[str, tuple[Callable[[TenantTask], Any], str]] = {
    "Django's": (unique_violation, "IntegrityError: SQLSTATE 23505"),
    "psycopg's": (lambda task: connection.connection.execute("SELECT secret"), "UndefinedColumn: SQLSTATE 42703"),
    "a server that is away": (raw_error, "OperationalError"),
    "Redis'": (redis_error, "ConnectionError"),
    "a client's of HTTP": (raising(httpx.ConnectError("no secret.example")), "ConnectError"),
    "a mail server's": (raising(smtplib.SMTPConnectError(421, b"secret.example is busy")), "SMTPConnectError"),
    "the resolver's": (raising(socket.gaierror(-2, "Name or service not known: secret")), "gaierror"),
    "of TLS": (raising(ssl.SSLCertVerificationError(1, "not for secret.example")), "SSLCertVerificationError"),
    "the system's": (lambda task: Path("/no/secret").read_text(), "FileNotFoundError"),
    "of a connection": (raising(ConnectionRefusedError(111, "secret.example")), "ConnectionRefusedError"),
}


@pytest.mark.parametrize("case", DRIVERS)
def test_a_drivers_text_is_for_staff(acme: Tenant, run_jobs: RunJobs, case: str) -> None:
    body, told = DRIVERS[case]
    job = dead(acme, body, run_jobs)
    assert "secret" in in_the_admin(job)
    owner = client_of(acme, add_user(acme, "olga", "owner", is_staff=True))
    member = member_of(acme)
    for _ in ("dead", "failure"):
        for client in (member, owner):
            answer = client.get(f"/api/v1/jobs/{job.id}/")
            assert answer.json()["error"] == told
            assert "secret" not in answer.content.decode()
        Job.objects.all().delete()


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda: None, "InternalError: current transaction is aborted"),
        (lambda: sql("SELECT 1"), "InternalError: current transaction is aborted"),
        (
            lambda: connection.connection.execute("SELECT 1"),
            "InFailedSqlTransaction: current transaction is aborted",
        ),
    ],
    ids=["it ends", "by Django", "by psycopg"],
)
def test_that_an_error_was_swallowed_is_told(
    acme: Tenant, run_jobs: RunJobs, end: Callable[[], object], told: str
) -> None:
    def body(task: TenantTask) -> None:
        with suppress(DatabaseError):
            sql("SELECT 1 / 0")
        end()

    job = dead(acme, body, run_jobs)
    assert member_of(acme).get(f"/api/v1/jobs/{job.id}/").json()["error"].startswith(told)


def test_so_it_is_while_it_is_tried_again(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        try:
            with transaction.atomic():
                unique_violation(task)
        except IntegrityError as error:
            task.retry(exc=error, countdown=60)

    bodies(body)
    job_id = dispatch(acme)
    run_jobs(limit=1)
    answer = member_of(acme).get(f"/api/v1/jobs/{job_id}/").json()
    assert (answer["state"], answer["error"]) == ("retry", "IntegrityError: SQLSTATE 23505")
    assert "secret" in Job.objects.get().traceback


@shared_task
def plainly_fails() -> None:
    sql("SELECT secret")


@pytest.mark.usefixtures("committed_db")
def test_so_it_is_for_plain_tasks(acme: Tenant) -> None:
    trace(plainly_fails, JOB_ID, {HEADER: {"schema": acme.schema_name}})
    answer = member_of(acme).get(f"/api/v1/jobs/{JOB_ID}/").json()
    assert (answer["state"], answer["error"]) == ("failure", "ProgrammingError: SQLSTATE 42703")


@pytest.mark.usefixtures("committed_db")
def test_a_row_of_the_release_before_tells_no_more(acme: Tenant) -> None:
    trace(plainly_fails, JOB_ID, {HEADER: {"schema": acme.schema_name}})
    row = result_of(acme.schema_name, JOB_ID)
    stored = {name: value for name, value in json.loads(row.result).items() if name != TOLD}
    with schema_context(acme.schema_name):
        TaskResult.objects.filter(pk=row.pk).update(result=json.dumps(stored))
    assert member_of(acme).get(f"/api/v1/jobs/{JOB_ID}/").json()["error"] == "ProgrammingError"


@shared_task
def plainly_raises(case: str) -> None:
    raise PLAIN_ERRORS[case]


PLAIN_ERRORS = {
    "NUL": ValueError("a\0b"),
    "surrogate": ValueError("a\ud800b"),
    "NaN": ValueError(NAN),
    "gigantic": ValueError("x" * 5_000_000),
}


@pytest.mark.parametrize("case", PLAIN_ERRORS)
def test_whatever_a_plain_task_raises_it_can_be_read(acme: Tenant, case: str) -> None:
    trace(plainly_raises, JOB_ID, {HEADER: {"schema": acme.schema_name}}, (case,))
    answer = member_of(acme).get(f"/api/v1/jobs/{JOB_ID}/").json()
    assert (answer["state"], answer["error"][:11]) == ("failure", "ValueError:")
    told = result_of(acme.schema_name, JOB_ID).traceback
    assert "ValueError" in told
    assert len(told) < 200_000


def test_a_text_of_djangos_or_our_own_is_everybodys(acme: Tenant, run_jobs: RunJobs) -> None:
    assert dead(acme, raising(DatabaseError("no rows")), run_jobs).error == "DatabaseError: no rows"


def test_what_an_author_says_of_a_connection_is_everybodys(acme: Tenant, run_jobs: RunJobs) -> None:
    body = raising(TimeoutError("the courier took too long"))
    assert dead(acme, body, run_jobs).error == "TimeoutError: the courier took too long"


# An author's text that repeats a driver's


def quoting(make: Callable[[TenantTask, Any], Exception]) -> Callable[[TenantTask], Any]:
    """A body that makes something of an error of the database, while it handles it."""

    def body(task: TenantTask) -> None:
        try:
            with transaction.atomic():
                unique_violation(task)
        except IntegrityError as error:
            raise make(task, error)  # noqa: B904  # as many authors do

    return body


def from_another(task: TenantTask, error: Any) -> Exception:
    try:
        raise ValueError(str(error)) from error
    except ValueError as second:
        third = RuntimeError(f"Not saved: {second}")
        third.__cause__ = second
        return third


QUOTES: dict[str, Callable[[TenantTask, Any], Exception]] = {
    "all of it": lambda task, error: ValueError(f"Not saved: {error}"),
    "its detail": lambda task, error: ValueError(f"Not saved: {error.__cause__.diag.message_detail}"),
    "its repr": lambda task, error: ValueError(f"Not saved: {error!r}"),
    "the error itself": lambda task, error: ValueError("Not saved: ", error),
    "of an error that quotes it": from_another,
    "in a group": lambda task, error: ExceptionGroup(f"Not saved: {error}", [error]),
    "to try again": lambda task, error: task.retry(exc=ValueError(f"Not saved: {error}"), throw=False),
}


@pytest.mark.parametrize("case", QUOTES)
def test_what_an_author_repeats_of_a_drivers_text_is_for_staff(acme: Tenant, run_jobs: RunJobs, case: str) -> None:
    bodies(quoting(QUOTES[case]))
    job_id = dispatch(acme)
    run_jobs(limit=1)
    job, owner = Job.objects.get(), member_of(acme, "owner")
    assert "secret" in in_the_admin(job)
    for path in (f"/api/v1/jobs/{job_id}/", f"/api/v1/jobs/?state={'retry' if job.state == 'waiting' else 'dead'}"):
        answer = owner.get(path).content.decode()
        assert "Not saved: " in answer
        assert "secret" not in answer


@shared_task
def plainly_quotes() -> None:
    try:
        sql("SELECT secret")
    except DatabaseError as error:
        raise ValueError(f"Not read: {error}") from error


@pytest.mark.usefixtures("committed_db")
def test_so_it_is_for_what_a_plain_task_repeats(acme: Tenant) -> None:
    trace(plainly_quotes, JOB_ID, {HEADER: {"schema": acme.schema_name}})
    owner = member_of(acme, "owner")
    for path in (f"/api/v1/jobs/{JOB_ID}/", "/api/v1/jobs/?state=failure"):
        answer = owner.get(path).content.decode()
        assert "ValueError: Not read: " in answer
        assert "secret" not in answer


def test_what_a_chord_tells_of_its_parts_is_for_staff(acme: Tenant, run_jobs: RunJobs) -> None:
    body = raising(ChordError("Dependency 1 raised IntegrityError('Key (name)=(a secret)')"))
    assert dead(acme, body, run_jobs).error == "ChordError"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("No answer from postgres://ada:s3cret@db.example/acme", "No answer from postgres://…db.example/acme"),
        ("https://:s3cret@one.example, https://two.example/@", "https://…one.example, https://two.example/@"),
        ("host=db.example password=s3cret dbname=acme", "host=db.example password=… dbname=acme"),
        ("Read https://docs.example/a@b", "Read https://docs.example/a@b"),
    ],
)
def test_a_password_in_an_address_is_for_staff(acme: Tenant, run_jobs: RunJobs, text: str, told: str) -> None:
    assert dead(acme, raising(ValueError(text)), run_jobs).error == f"ValueError: {told}"
