"""What the admin's URLs answer to ids that nothing has: whatever is registered, whoever asks."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLResolver, get_resolver

from tests.people import add_staff, client_of_staff

# The part of a route that a URL fills in
PLACE = re.compile(r"<[^>]+>|\(\?P<\w+>[^)]*\)")
# Quoted for a path. `_5F` is how the admin quotes an underscore, and `_00` a NUL.
ODD = ["x", "-1", "9" * 30, "1%00", "_00", "_5F", "_zz", "a" * 5000, "%ED%A0%80", "%0A", "1/change"]


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


def urls(odd: str) -> list[str]:
    """Those that have places, with this in each."""
    filled = [f"/{PLACE.sub(lambda _: odd, route)}" for route in routes() if PLACE.search(route)]
    return list(dict.fromkeys(filled))


def failures(client: Client, ids: list[str]) -> list[tuple[str, str]]:
    client.raise_request_exception = False
    asked = [(method, url) for odd in ids for url in urls(odd) for method in ("get", "post")]
    return [(method, url[:100]) for method, url in asked if getattr(client, method)(url).status_code >= 500]


def lists() -> list[str]:
    assert routes()  # loads the URLs, which decide what is registered
    return [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry]


def test_no_url_fails_for_an_odd_id(committed_db: None) -> None:
    assert failures(client_of_staff(add_staff()), ODD) == []


def test_none_fails_for_staff_without_rights(committed_db: None) -> None:
    assert failures(client_of_staff(add_staff(is_superuser=False)), ["x", "1%00"]) == []


def test_none_fails_for_an_id_of_another_model(committed_db: None) -> None:
    sam, group = add_staff(), Group.objects.create(name="all")
    assert failures(client_of_staff(sam), [str(sam.pk), sam.pk.hex.upper(), str(group.pk)]) == []


def test_no_action_fails_for_an_odd_id(committed_db: None) -> None:
    client = client_of_staff(add_staff())
    client.raise_request_exception = False
    assert len(lists()) >= 10
    failed = []
    for path in lists():
        page = client.get(path)
        for action in page.context["cl"].model_admin.get_actions(page.wsgi_request):
            for odd in ("x", "1", "-1", "9" * 30, "\0", "", "a" * 5000):
                answer = client.post(path, {"action": action, "_selected_action": odd, "post": "yes"})
                if answer.status_code >= 500:
                    failed.append((path, action, odd[:10]))
    assert failed == []


def test_no_parameter_of_a_list_fails(committed_db: None) -> None:
    client = client_of_staff(add_staff())
    client.raise_request_exception = False
    fields = ["x", "\0", "id", "pk", "password", "user", "group", "tenant", "permission", "logentry", "periodictask"]
    asked = [
        *({"_to_field": value} for value in fields),
        *({"_changelist_filters": value} for value in ("\0", "x=%00", "&&")),
        *({name: value} for name in ("_popup", "p", "o", "e", "all") for value in ("\0", "x", "9" * 30, "-1")),
    ]
    paths = [url for path in lists() for url in (path, f"{path}add/")]

    assert [(path, one) for path in paths for one in asked if client.get(path, one).status_code >= 500] == []


@pytest.mark.parametrize("term", ["sam", "\0", "a" * 5000, "\ud7ff"])
@pytest.mark.parametrize("field", ["user", "id", "x", "\0", "content_type", "user__password"])
def test_no_search_for_a_choice_fails(committed_db: None, field: str, term: str) -> None:
    client = client_of_staff(add_staff())
    client.raise_request_exception = False
    asked = {"app_label": "admin", "model_name": "logentry", "field_name": field, "term": term}
    for more in ({}, {"page": "x"}, {"page": "9" * 30}, {"app_label": "\0"}, {"model_name": "x"}):
        assert client.get("/admin/autocomplete/", {**asked, **more}).status_code < 500, more


@pytest.mark.parametrize("path", ["4/1/", "4/x/", "x/x/", "1/%00/", "9999999999999999999999/1/"])
@pytest.mark.parametrize("is_superuser", [True, False])
def test_there_is_no_page_that_leads_to_an_object_elsewhere(db: None, path: str, is_superuser: bool) -> None:
    client = client_of_staff(add_staff(is_superuser=is_superuser))

    answer = client.get(f"/admin/r/{path}")

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
