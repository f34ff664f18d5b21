"""A durable job's arguments are plain JSON: they come out as they went in, or the call says what to pass instead."""

import json
import uuid
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any

import pytest
from django.db import models
from django.http import QueryDict
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from jobs.models import Job
from tenants.models import Tenant
from tests.jobs.claims import change, dispatch
from tests.jobs.durables import atomic, bodies

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
    "surrogates in the wrong order": "\ude00\ud83d",
    "an emoji": {"\U0001f600": "\U0001f600"},
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
    "a surrogate pair": ("\ud83d\ude00", "pass value.encode"),
    "a surrogate pair in a key": ({"a\ud83d\ude00": 1}, "pass value.encode"),
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
