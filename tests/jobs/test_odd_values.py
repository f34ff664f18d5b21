"""What a caller or a body puts into a row is refused at the call, or ends the job with a reason, and can be shown."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import redis
from celery import current_app, shared_task
from celery.exceptions import Ignore, Reject, Retry
from celery.result import AsyncResult
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, transaction
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context
from rest_framework.test import APIClient
from structlog.contextvars import bound_contextvars

from jobs.celery_hooks.tracing import trace
from jobs.message import HEADER
from jobs.models import Job
from jobs.task import TenantTask
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.claims import change, dispatch
from tests.jobs.durables import atomic, bodies, open, result_of, sql
from tests.people import add_user, client_of

RunJobs = Callable[..., int]
NAN, INF = float("nan"), float("inf")


class Nowhere(tzinfo):
    """A zone that does not know its offset."""

    def __repr__(self) -> str:
        return "Nowhere()"

    def utcoffset(self, when: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


def member_of(tenant: Tenant, role: str = "member", **fields: Any) -> APIClient:
    return client_of(tenant, add_user(tenant, "ada", role, **fields))


def raising(error: BaseException) -> Callable[..., Any]:
    def body(task: TenantTask) -> None:
        raise error

    return body


def dead(acme: Tenant, body: Callable[..., Any], run_jobs: RunJobs, *, task: TenantTask = atomic) -> Job:
    """The row of a job that this body was the death of."""
    bodies(body)
    with schema_context(acme.schema_name):
        task.delay_on_commit()
    run_jobs(limit=1)
    job = Job.objects.get()
    assert (job.state, job.token) == ("dead", None), job.error
    assert result_of(acme.schema_name, str(job.id)).status == "FAILURE"
    return job


# Times

SECONDS: list[Any] = [
    False,
    "",
    NAN,
    INF,
    -INF,
    -1,
    -0.001,
    9e11,
    1e300,
    10**400,
    True,
    "5",
    b"5",
    timedelta(1),
    [5],
    2.6e11,
]
TIMES: list[Any] = [
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    datetime(9999, 1, 1, tzinfo=UTC),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime(9999, 12, 31, 23, tzinfo=ZoneInfo("America/Adak")),
    datetime(2030, 1, 1, tzinfo=Nowhere()),
    datetime(2030, 1, 1),
    datetime(2030, 1, 1).date(),
    "tomorrow",
    "2030-01-01",
    1893456000,
]
ODD = [("countdown", value) for value in SECONDS]
ODD += [("eta", value) for value in TIMES]
ODD += [("expires", value) for value in SECONDS[:11] + TIMES[:11]]
ODD += [(name, value) for name in ("time_limit", "soft_time_limit") for value in SECONDS]


@pytest.mark.parametrize("way", ["call", "map", "link", "errback"])
@pytest.mark.parametrize(("option", "value"), ODD, ids=repr)
def test_a_time_that_cannot_be_is_refused_at_the_call(acme: Tenant, way: str, option: str, value: Any) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "call": lambda: dispatch(acme, **{option: value}),
        "map": lambda: atomic.map_on_commit([()], **{option: value}),
        "link": lambda: dispatch(acme, link=atomic.si().set(**{option: value})),
        "errback": lambda: dispatch(acme, link_error=atomic.si().set(**{option: value})),
    }
    with pytest.raises((TypeError, ValueError), match=f"`{option}` is a (number of seconds|time|datetime)"):
        calls[way]()
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "at",
    [
        datetime(9998, 12, 30, tzinfo=UTC),
        datetime(1, 1, 3, tzinfo=UTC),
        datetime(9998, 12, 30, tzinfo=ZoneInfo("America/Adak")),
    ],
    ids=str,
)
@pytest.mark.parametrize("option", ["eta", "expires"])
def test_a_time_that_can_be_shows_in_lists(acme: Tenant, at: datetime, option: str) -> None:
    options: dict[str, Any] = {option: at}
    job_id = dispatch(acme, **options)
    client = member_of(acme, "owner")
    assert client.get("/api/v1/jobs/").json()["results"][0]["id"] == job_id
    assert getattr(Job.objects.get(), {"eta": "due_at", "expires": "expires_at"}[option]) == at


def test_a_limit_of_months_is_kept(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: "fine")
    job_id = dispatch(acme, time_limit=90 * 86_400)
    run_jobs()
    assert result_of(acme.schema_name, job_id).result == '"fine"'


# Names


@shared_task(name="x" * 256)
def named_at_length() -> None: ...


@shared_task(name="a\0b")
def named_badly() -> None: ...


@shared_task(name="\ud800")
def named_worse() -> None: ...


@pytest.mark.parametrize("task", [named_at_length, named_badly, named_worse], ids=["long", "NUL", "surrogate"])
def test_a_name_that_no_row_can_keep_is_refused_at_the_call(acme: Tenant, task: Any) -> None:
    with transaction.atomic():
        for call in (task.delay_on_commit, lambda: task.map_on_commit([()]), task.for_each_tenant_on_commit):
            with pytest.raises(TypeError, match="at most 255 characters"):
                call()
        with pytest.raises(TypeError, match="at most 255 characters"):
            dispatch(acme, link=task.si())
        assert not Job.objects.exists()


@pytest.mark.parametrize(
    "request_id", ["x" * 1000, "\0", "\ud800" * 64, 7, None], ids=["long", "NUL", "surrogates", "7", "None"]
)
def test_a_request_id_keeps_no_job_from_its_row(acme: Tenant, request_id: Any) -> None:
    with bound_contextvars(request_id=request_id):
        dispatch(acme)
    assert len(Job.objects.get().request_id) <= 64


# Results

RESULTS: dict[str, Any] = {
    "NaN": NAN,
    "infinity": {"in": [INF]},
    "a lone surrogate": "\ud800",
    "a lone surrogate as a key": {"in": {"a\udfff": 1}},
    "two that do not match": "\udc00\ud800",
    "a number of 5,000 digits": 10**5000,
    "a number as a key": {1: 1},
    "a set": {1},
    "a Decimal": Decimal(1),
    "10,000 levels": None,  # made in the test
    "a million characters": "x" * 1_000_000,
    "an exception": ValueError("returned"),
}


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("task", [atomic, open], ids=["atomic", "open"])
@pytest.mark.parametrize("case", RESULTS)
def test_a_result_that_cannot_be_shown_makes_it_dead_with_the_reason(
    acme: Tenant, run_jobs: RunJobs, case: str, task: TenantTask
) -> None:
    result = deep(10_000) if case == "10,000 levels" else RESULTS[case]
    job = dead(acme, lambda task: result, run_jobs, task=task)
    assert job.error.startswith("TypeError: A durable job's result must be ")
    answer = member_of(acme).get(f"/api/v1/jobs/{job.id}/")
    assert (answer.status_code, answer.json()["error"]) == (200, job.error)


def test_so_does_one_that_a_completion_names(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with task.completion() as done:
            Group.objects.create(name="effect")
            done.result = NAN

    dead(acme, body, run_jobs, task=open)
    with schema_context(acme.schema_name):
        assert not Group.objects.exists()


@pytest.mark.parametrize(
    "result", ["a\0b", "\U0001f600", "\\ud800", {"__type__": "x", "__value__": 1}, deep(99), 2**80], ids=repr
)
def test_a_result_that_can_be_shown_is_shown_as_it_is(acme: Tenant, run_jobs: RunJobs, result: Any) -> None:
    bodies(lambda task: result)
    job_id = dispatch(acme)
    run_jobs()
    assert member_of(acme).get(f"/api/v1/jobs/{job_id}/").json()["result"] == result


# Results of plain tasks, and rows that somebody has changed

STORED = [
    "NaN",
    '{"a": [Infinity]}',
    '"\\ud800"',
    '{"\\udfff": 1}',
    "[",
    "",
    "9" * 5000,
    "[" * 5000 + "]" * 5000,
    "null",
    "5",
    "1e999",
    '{"attempts": "x", "error": ["\\ud800"]}',
]


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "REVOKED", "PROGRESS", "odd"])
@pytest.mark.parametrize("text", STORED, ids=lambda text: text[:20])
def test_whatever_a_result_row_has_its_job_can_be_read(acme: Tenant, status: str, text: str) -> None:
    with schema_context(acme.schema_name):
        TaskResult.objects.create(task_id=JOB_ID, status=status, result=text, meta=text, task_name=None)
    answer = member_of(acme).get(f"/api/v1/jobs/{JOB_ID}/")
    assert answer.status_code == 200
    assert answer.json()["state"] == status.lower()


JOB_ID = "0198c0de-0000-7000-8000-000000000000"

# Retries

RETRIES: dict[str, dict[str, Any]] = {
    "countdown NaN": {"countdown": NAN},
    "countdown infinite": {"countdown": INF},
    "countdown negative": {"countdown": -1},
    "countdown far": {"countdown": 9e11},
    "countdown in words": {"countdown": "5"},
    "countdown a timedelta": {"countdown": timedelta(1)},
    "countdown a bool": {"countdown": True},
    "eta naive": {"eta": datetime(2030, 1, 1)},
    "eta in words": {"eta": "tomorrow"},
    "eta far": {"eta": datetime.max.replace(tzinfo=UTC)},
    "eta early": {"eta": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))},
    "max_retries in words": {"max_retries": "x"},
    "exc in words": {"exc": "x"},
    "exc a class": {"exc": ValueError},
}


@pytest.mark.parametrize("task", [atomic, open], ids=["atomic", "open"])
@pytest.mark.parametrize("case", RETRIES)
def test_a_retry_that_cannot_be_makes_it_dead_with_the_reason(
    acme: Tenant, run_jobs: RunJobs, case: str, task: TenantTask
) -> None:
    job = dead(acme, lambda task: task.retry(**RETRIES[case]), run_jobs, task=task)
    assert job.error.startswith(("TypeError: ", "ValueError: "))
    assert case.split()[0] in job.error


@pytest.mark.parametrize("when", [NAN, -5, 9e11, "soon", True, datetime(2030, 1, 1), datetime.max.replace(tzinfo=UTC)])
def test_so_does_one_that_a_body_raises_by_itself(acme: Tenant, run_jobs: RunJobs, when: Any) -> None:
    job = dead(acme, raising(Retry("later", when=when)), run_jobs)
    assert job.error.startswith(("TypeError: `", "ValueError: `"))


@shared_task(bind=True, autoretry_for=(ConnectionError,), retry_kwargs={"countdown": NAN})
def backs_off_oddly(self: TenantTask) -> Any:
    return bodies.current(self)


@shared_task(bind=True, default_retry_delay="soon")
def delays_in_words(self: TenantTask) -> Any:
    self.retry()


@pytest.mark.parametrize("task", [backs_off_oddly, delays_in_words], ids=lambda task: task.name)
def test_so_does_one_that_the_task_was_defined_with(acme: Tenant, run_jobs: RunJobs, task: TenantTask) -> None:
    dead(acme, raising(ConnectionError("refused")), run_jobs, task=task)


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
    client = member_of(acme, is_staff=True)
    assert client.get(f"/api/v1/jobs/{job.id}/").json()["traceback"] == job.traceback
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


DRIVERS: dict[str, tuple[Callable[[TenantTask], Any], str]] = {
    "Django's": (unique_violation, "IntegrityError: SQLSTATE 23505"),
    "psycopg's": (lambda task: connection.connection.execute("SELECT secret"), "UndefinedColumn: SQLSTATE 42703"),
    "a server that is away": (raw_error, "OperationalError"),
    "Redis'": (redis_error, "ConnectionError"),
}


@pytest.mark.parametrize("case", DRIVERS)
def test_a_drivers_text_is_for_staff(acme: Tenant, run_jobs: RunJobs, case: str) -> None:
    body, told = DRIVERS[case]
    job = dead(acme, body, run_jobs)
    member, staff = member_of(acme), client_of(acme, add_user(acme, "sid", is_staff=True))
    for _ in ("dead", "failure"):
        answer = member.get(f"/api/v1/jobs/{job.id}/")
        assert (answer.json()["error"], answer.json()["traceback"]) == (told, None)
        assert "secret" not in answer.content.decode()
        assert "secret" in staff.get(f"/api/v1/jobs/{job.id}/").json()["traceback"]
        Job.objects.all().delete()


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
    assert (answer["state"], answer["error"], answer["traceback"]) == ("retry", "IntegrityError: SQLSTATE 23505", None)
    assert "secret" in Job.objects.get().traceback


@shared_task
def plainly_fails() -> None:
    sql("SELECT secret")


@pytest.mark.usefixtures("committed_db")
def test_so_it_is_for_plain_tasks(acme: Tenant) -> None:
    trace(plainly_fails, JOB_ID, {HEADER: {"schema": acme.schema_name}})
    answer = member_of(acme).get(f"/api/v1/jobs/{JOB_ID}/").json()
    assert (answer["state"], answer["error"]) == ("failure", "ProgrammingError")


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
    answer = member_of(acme, is_staff=True).get(f"/api/v1/jobs/{JOB_ID}/").json()
    assert (answer["state"], answer["error"][:11]) == ("failure", "ValueError:")
    assert "ValueError" in answer["traceback"]
    assert len(answer["traceback"]) < 200_000


def test_a_text_of_djangos_or_our_own_is_everybodys(acme: Tenant, run_jobs: RunJobs) -> None:
    assert dead(acme, raising(DatabaseError("no rows")), run_jobs).error == "DatabaseError: no rows"


# When


def test_when_a_job_was_created_does_not_change(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: None)
    job_id = dispatch(acme)
    change(job_id, "created_at = '2026-01-01T00:00:00+00:00'")
    client = member_of(acme)
    before = client.get(f"/api/v1/jobs/{job_id}/").json()["created_at"]
    run_jobs()
    after = client.get(f"/api/v1/jobs/{job_id}/").json()
    assert (before, after["state"]) == (after["created_at"], "success")
    assert after["finished_at"] > before


@pytest.mark.parametrize("end", ["dies", "expires", "is ignored", "is cancelled"])
def test_nor_does_it_however_the_job_ends(acme: Tenant, run_jobs: RunJobs, end: str) -> None:
    bodies(raising(Ignore() if end == "is ignored" else ValueError()))
    job_id = dispatch(acme)
    expires = ", expires_at = now()" if end == "expires" else ""
    change(job_id, f"created_at = '2026-01-01T00:00:00+00:00'{expires}")
    client = member_of(acme, "owner")
    before = client.get(f"/api/v1/jobs/{job_id}/").json()["created_at"]
    if end == "is cancelled":
        assert client.post(f"/api/v1/jobs/{job_id}/cancellation/").status_code == 202
    run_jobs()
    Job.objects.all().delete()
    after = client.get(f"/api/v1/jobs/{job_id}/").json()
    assert (before, bool(after["finished_at"])) == (after["created_at"], True)
