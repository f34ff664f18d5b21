"""What the admin's URLs answer to ids that nothing has: whatever is registered, whoever asks."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLResolver, get_resolver
from django_celery_beat.models import IntervalSchedule

from tests.people import add_staff, client_of_staff

# The part of a route that a URL fills in
PLACE = re.compile(r"<[^>]+>|\(\?P<\w+>[^)]*\)")
# Quoted for a path. `_5F` is how the admin quotes an underscore, and `_00` a NUL.
ODD = [
    "x",
    "1",
    "0",
    "-1",
    "9" * 30,
    "1e5",
    "None",
    "a" * 5000,
    "%00",
    "1%00",
    "_00",
    "_5F",
    "_",
    "_zz",
    "%0A",
    "%FF",
    "%ED%A0%80",
    "%E2%80%AE",
    "%D9%A1",
    "..%2F..",
    "1/change",
    "add",
    "00000000-0000-0000-0000-000000000000",
    "%7B00000000-0000-0000-0000-000000000000%7D",
]


def routes_of(resolver: Any, before: str = "") -> Iterator[str]:
    for found in resolver.url_patterns:
        route = before + str(found.pattern).removeprefix("^").removesuffix("$")
        if isinstance(found, URLResolver):
            yield from routes_of(found, route)
        else:
            yield route


def routes() -> list[str]:
    """Of the admin, with the places of what a URL fills in."""
    found = [route for route in routes_of(get_resolver("config.public_urls")) if route.startswith("admin/")]
    assert len(found) >= 50
    return found


def urls(ids: list[str]) -> list[str]:
    filled = [f"/{PLACE.sub(lambda _: odd, route)}" for route in routes() for odd in ids]  # noqa: B023
    return list(dict.fromkeys(filled))


def failures(client: Client, ids: list[str]) -> list[tuple[str, str, int]]:
    client.raise_request_exception = False
    failed = []
    for url in urls(ids):
        if "logout" in url or "password_change" in url:
            continue  # ends the session, or is tried elsewhere
        for method in ("get", "post"):
            answer = getattr(client, method)(url, {"post": "yes", "_save": "x"} if method == "post" else {})
            if answer.status_code >= 500:
                failed.append((method, url[:200], answer.status_code))
    return failed


@pytest.mark.parametrize("is_superuser", [True, False])
def test_no_url_fails_for_an_odd_id(committed_db: None, is_superuser: bool) -> None:
    client = client_of_staff(add_staff(is_superuser=is_superuser))

    assert failures(client, ODD) == []


def test_no_url_fails_for_an_id_of_another_model(committed_db: None) -> None:
    sam, group = add_staff(), Group.objects.create(name="all")
    interval = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    client = client_of_staff(sam)

    assert failures(client, [str(sam.pk), sam.pk.hex.upper(), str(group.pk + 1000), f"{interval.pk}/"]) == []


@pytest.mark.parametrize("path", ["4/1/", "4/x/", "x/x/", "1/%00/", "9999999999999999999999/1/"])
@pytest.mark.parametrize("is_superuser", [True, False])
def test_there_is_no_page_that_leads_to_an_object_elsewhere(db: None, path: str, is_superuser: bool) -> None:
    client = client_of_staff(add_staff(is_superuser=is_superuser))

    answer = client.get(f"/admin/r/{path}")

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"


def test_no_strange_parameter_fails(committed_db: None) -> None:
    client = client_of_staff(add_staff())
    client.raise_request_exception = False
    names = ["_to_field", "_popup", "_changelist_filters", "app_label", "model_name", "field_name", "term", "next", "p"]
    odd = ["x", "\0", "%00", "id", "password", "user", "accounts", "9" * 30, "/\0", "-1"]
    paths = [url for url in urls(["x"]) if "logout" not in url and not url.endswith("/x/change/")]

    failed = [
        (path, name, value)
        for path in paths
        for name in names
        for value in odd
        if client.get(path, {name: value}).status_code >= 500
    ]

    assert failed == []
