"""A durable job's arguments are plain JSON: they come out as they went in, or the call says what to pass instead."""

import json
import uuid
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from io import StringIO
from types import MappingProxyType
from typing import Any

import pytest
from django.core.management import call_command
from django.db import models
from django.http import QueryDict
from django.test import Client
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from accounts.models import User
from jobs.models import Job
from jobs.relay import maintenance
from tenants.models import Tenant
from tests.jobs.claims import VANISHED, change, dispatch
from tests.jobs.durables import atomic, bodies, result_of, sql
from tests.people import PASSWORD, add_user, client_of

RunJobs = Callable[..., int]


class Colour(models.TextChoices):
    RED = "red"


class Weekday(IntEnum):
    MONDAY = 1


class Plain(Enum):
    RED = "red"


Point = namedtuple("Point", "x y")


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def received(run_jobs: RunJobs) -> list[tuple[Any, ...]]:
    """What the bodies of all jobs were called with."""
    calls: list[tuple[Any, ...]] = []
    bodies(lambda task, *args, **kwargs: calls.append((*args, kwargs)))
    run_jobs()
    return calls


# What comes out

KEPT: dict[str, Any] = {
    "a type of Celery's": {"__type__": "uuid", "__value__": {"hex": "0" * 32}},
    "a type that Celery does not know": {"__type__": "x", "__value__": 1},
    "one that is nested": [{"in": ({"__type__": "datetime", "__value__": "yesterday"},)}],
    "NUL": "a\0b",
    "a lone surrogate": {"\ud800": "\udfff"},
    "text that looks escaped": "\\u0000 \\ud800 %s %(id)s {}",
    "a number of 80 bits": 2**80,
    "a number of 4,000 digits": 10**3999,
    "the smallest float": 5e-324,
    "minus zero": -0.0,
    "nothing": None,
    "a dict in order": OrderedDict(b=1, a=2),
    "a defaultdict": defaultdict(list, a=[1]),
    "a Counter": Counter("aab"),
    "a member of TextChoices": Colour.RED,
    "a member of IntEnum": Weekday.MONDAY,
    "safe text": mark_safe("<b>"),
    "100 levels": deep(98),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_comes_out_is_what_went_in(acme: Tenant, run_jobs: RunJobs, case: str) -> None:
    dispatch(acme, KEPT[case], kwargs={"keyword": KEPT[case]})
    [(by_position, by_keyword)] = received(run_jobs)
    assert json.dumps(by_position) == json.dumps(by_keyword["keyword"])
    if case != "one that is nested":  # which has a tuple
        assert by_position == KEPT[case] == by_keyword["keyword"]
    assert not Job.objects.exists()


def test_tuples_become_lists(acme: Tenant, run_jobs: RunJobs) -> None:
    dispatch(acme, (1, (2,)), {"point": Point(1, 2)})
    assert received(run_jobs) == [([1, [2]], {"point": [1, 2]}, {})]


# What is refused

REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": (float("nan"), "pass None"),
    "infinity": ([-float("inf")], "pass None"),
    "a UUID": (uuid.uuid4(), r"UUID; pass str\(value\)"),
    "a Decimal": ({"amount": Decimal("1.20")}, r"Decimal; pass str\(value\)"),
    "a datetime": (datetime(2026, 1, 1, tzinfo=UTC), r"datetime; pass value.isoformat\(\)"),
    "a date": ([[date(2026, 1, 1)]], r"date; pass value.isoformat\(\)"),
    "a time": (time(12), r"time; pass value.isoformat\(\)"),
    "a timedelta": (timedelta(1), r"pass value.total_seconds\(\)"),
    "bytes": (b"bytes", r"pass value.decode\(\)"),
    "a set": ({1}, r"pass sorted\(value\)"),
    "a member of Enum": (Plain.RED, "pass value.value"),
    "a model instance": (Job(), "pass its primary key"),
    "a lazy text": (gettext_lazy("yes"), "pass ids and plain values"),
    "a class": (int, "pass ids and plain values"),
    "a generator": ((n for n in range(3)), "pass ids and plain values"),
    "a number as a key": ({1: "one"}, r"one is int; pass str\(key\)"),
    "True as a key": ({True: "yes"}, r"one is bool; pass str\(key\)"),
    "None as a key": ({"in": [{None: 1}]}, r"one is NoneType; pass str\(key\)"),
    "a tuple as a key": ({(1, 2): 1}, r"one is tuple; pass str\(key\)"),
    "a QueryDict": (QueryDict("a=1&a=2"), r"pass dict\(value\)"),
    "a mapping that is no dict": (MappingProxyType({}), r"pass dict\(value\)"),
    "a number of 5,000 digits": (10**5000, "4300 digits"),
    "101 levels": (deep(101), "deeper than 100 levels"),
    "10,000 levels": (deep(10_000), "deeper than 100 levels"),
    "a million characters": ("x" * 1_000_000, "pass its id"),
}


@pytest.mark.parametrize("way", ["call", "keyword", "map", "for each tenant", "link", "errback", "link of a link"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_json_does_not_keep_is_refused_with_a_remedy(acme: Tenant, case: str, way: str) -> None:
    value, remedy = REFUSED[case]
    calls: dict[str, Callable[[], Any]] = {
        "call": lambda: dispatch(acme, value),
        "keyword": lambda: dispatch(acme, kwargs={"keyword": value}),
        "map": lambda: atomic.map_on_commit([(1,), (value,)]),
        "for each tenant": lambda: atomic.for_each_tenant_on_commit(value),
        "link": lambda: dispatch(acme, link=atomic.s(value)),
        "errback": lambda: dispatch(acme, link_error=atomic.s(keyword=value)),
        "link of a link": lambda: dispatch(acme, link=atomic.s().set(link=atomic.si(value))),
    }
    with pytest.raises(TypeError, match=f"arguments must be .*{remedy}"):
        calls[way]()
    assert not Job.objects.exists()


# Links


def test_a_link_gets_its_own_arguments_and_the_result_as_they_were(acme: Tenant, run_jobs: RunJobs) -> None:
    odd = {"__type__": "x", "__value__": "\0\ud800"}
    dispatch(acme, link=atomic.s(odd, keyword=odd))
    calls: list[Any] = []

    def body(task: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return {"__type__": "y", "__value__": 2}

    bodies(body)
    run_jobs()
    assert calls == [((), {}), (({"__type__": "y", "__value__": 2}, odd), {"keyword": odd})]


def test_links_keep_their_times(acme: Tenant, run_jobs: RunJobs) -> None:
    at = datetime(2990, 1, 1, 12, tzinfo=UTC)
    inner = atomic.si("inner").set(eta=at + timedelta(days=1), expires=at + timedelta(days=2))
    dispatch(acme, link=atomic.si("outer").set(eta=at, link=inner))
    bodies(lambda task, *args: None)
    run_jobs()
    outer = Job.objects.get()
    assert (outer.args, outer.due_at) == ('["outer"]', at)

    change(str(outer.id), "due_at = now(), next_send_at = now()")
    run_jobs()
    job = Job.objects.get()
    assert (job.args, job.due_at, job.expires_at) == ('["inner"]', at + timedelta(days=1), at + timedelta(days=2))


# Rows of the release before

UUID_OF_CELERY = '{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000007"}}'
TIME_OF_CELERY = '{"__type__": "datetime", "__value__": "2990-01-01T12:00:00+00:00"}'


def test_a_row_of_the_release_before_is_read_as_it_was_written(acme: Tenant, run_jobs: RunJobs) -> None:
    change(dispatch(acme), f"codec = 0, args = '[{UUID_OF_CELERY}]', kwargs = '{{\"at\": {TIME_OF_CELERY}}}'")
    assert received(run_jobs) == [(uuid.UUID(int=7), {"at": datetime(2990, 1, 1, 12, tzinfo=UTC)})]


def test_so_are_its_links(acme: Tenant, run_jobs: RunJobs) -> None:
    link = (
        f'[{{"task": "{atomic.name}", "args": [{UUID_OF_CELERY}], "kwargs": {{}}, "immutable": true,'
        f' "subtask_type": null, "options": {{"eta": {TIME_OF_CELERY}}}}}]'
    )
    job_id = dispatch(acme)
    sql("UPDATE public.jobs_job SET codec = 0, link = %s WHERE id = %s", link, job_id)
    assert received(run_jobs) == [({},)]
    linked = Job.objects.get()
    assert linked.due_at == datetime(2990, 1, 1, 12, tzinfo=UTC)

    change(str(linked.id), "due_at = now(), next_send_at = now()")
    assert received(run_jobs) == [(uuid.UUID(int=7), {})]


def test_new_rows_say_that_they_are_plain(acme: Tenant) -> None:
    dispatch(acme)
    atomic.map_on_commit([()])
    atomic.for_each_tenant_on_commit()
    assert set(Job.objects.values_list("codec", flat=True)) == {Job.Codec.PLAIN}


# Rows that somebody has changed

SPOILT = {
    "no JSON": "args = '['",
    "no text": "args = ''",
    "not a list": "args = '5'",
    "text for a list": """args = '"abc"'""",
    "pairs for a dict": """kwargs = '[["a", 1]]'""",
    "kwargs that are a list": "kwargs = '[1]'",
    "a type that Celery does not know": """codec = 0, args = '[{"__type__": "x", "__value__": 1}]'""",
    "a UUID that is none": """codec = 0, kwargs = '{"a": {"__type__": "uuid", "__value__": 1}}'""",
    "a codec of a later release": "codec = 7",
    "a link that is no JSON": "link = '{'",
    "a link that is a number": "link = '[5]'",
    "a link to nothing": "link = '[{}]'",
    "a link to a queue": """link = '[{"task": "a", "args": [], "kwargs": {}, "options": {"queue": "x"}}]'""",
    "too deep": f"args = '{'[' * 5000}{']' * 5000}'",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_row_that_cannot_be_read_ends_as_dead_with_the_reason(acme: Tenant, run_jobs: RunJobs, spoil: str) -> None:
    job_id = dispatch(acme)
    healthy = dispatch(acme)
    change(job_id, SPOILT[spoil])
    bodies(lambda task, *args, **kwargs: None)
    run_jobs()
    job = Job.objects.get()
    assert (str(job.id), job.state, job.token) == (job_id, "dead", None)
    assert job.error
    assert result_of(acme.schema_name, job_id).status == "FAILURE"
    assert result_of(acme.schema_name, healthy).status == "SUCCESS"


NUL_IN_SCHEMA = f'[{{"task": "{atomic.name}", "args": [], "kwargs": {{}}, "options": {{"tenant_schema": "\\u0000"}}}}]'


@pytest.mark.parametrize("link", ["{", "[5]", "[{}]", "5", '[{"task": "celery.ping"}]', NUL_IN_SCHEMA])
def test_an_errback_that_cannot_be_read_keeps_no_job_from_its_death(acme: Tenant, run_jobs: RunJobs, link: str) -> None:
    job_id = dispatch(acme)
    change(job_id, f"link_error = '{link}'")
    bodies(lambda task: 1 / 0)
    run_jobs()
    assert Job.objects.get().error == "ZeroDivisionError: division by zero"
    assert result_of(acme.schema_name, job_id).status == "FAILURE"


def expired(job_id: str) -> None:
    change(job_id, "expires_at = clock_timestamp()")


def poisoned(job_id: str) -> None:
    change(job_id, f"{VANISHED}, kills = 100")


@pytest.mark.parametrize(("end", "status"), [(expired, "REVOKED"), (poisoned, "FAILURE")])
@pytest.mark.parametrize("spoil", SPOILT)
def test_a_sweep_ends_a_row_that_cannot_be_read_and_those_after_it(
    acme: Tenant, spoil: str, end: Callable[[str], None], status: str
) -> None:
    jobs = [dispatch(acme), dispatch(acme)]
    change(jobs[0], SPOILT[spoil])
    for job_id in jobs:
        end(job_id)
    maintenance.run_maintenance()
    assert [result_of(acme.schema_name, job_id).status for job_id in jobs] == [status, status]


@pytest.fixture
def staff(db: None) -> Client:
    """Staff of the platform, in the admin."""
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("sam@tenantry.example", "Sam Staff", PASSWORD))
    return client


@pytest.mark.parametrize("spoil", SPOILT)
def test_people_see_and_change_a_row_that_cannot_be_read(acme: Tenant, staff: Client, spoil: str) -> None:
    job_id = dispatch(acme)
    change(job_id, SPOILT[spoil])
    owner = client_of(acme, add_user(acme, "olive", "owner"))
    assert owner.get("/api/v1/jobs/").json()["results"][0]["id"] == job_id
    assert owner.get(f"/api/v1/jobs/{job_id}/").json()["state"] == "pending"
    for page in ("", f"{job_id}/change/"):
        assert job_id in staff.get(f"/admin/jobs/job/{page}").content.decode()
    for command in (["list", "--state", "waiting"], ["show", job_id]):
        out = StringIO()
        call_command("jobs", *command, stdout=out)
        assert job_id in out.getvalue()

    change(job_id, "state = 'dead', tag = NULL, died_at = now()")
    call_command("jobs", "retry", job_id, stdout=StringIO())
    chosen = {"action": "cancel", "_selected_action": [job_id]}
    assert "1 of 1 jobs cancelled" in staff.post("/admin/jobs/job/", chosen, follow=True).content.decode()
    assert owner.get(f"/api/v1/jobs/{job_id}/").json()["error"] == "cancelled"
