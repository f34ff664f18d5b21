"""A time, a name or a retry that no row can keep is refused at the call, or ends the job with the reason."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import shared_task
from celery.exceptions import Retry
from django.db import transaction
from structlog.contextvars import bound_contextvars

from jobs.models import Job
from jobs.task import TenantTask
from tenants.models import Tenant
from tests.jobs.claims import dispatch
from tests.jobs.deaths import INF, NAN, dead, member_of, raising
from tests.jobs.durables import atomic, bodies, open, result_of

RunJobs = Callable[..., int]


class Nowhere(tzinfo):
    """A zone that does not know its offset."""

    def __repr__(self) -> str:
        return "Nowhere()"

    def utcoffset(self, when: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


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
