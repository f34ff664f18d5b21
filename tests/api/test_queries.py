"""What a query may hold: the parameters that the view takes, once each, each with a value that makes sense."""

# ruff: noqa: RUF001  # letters of other scripts are what is tested

from typing import Any
from urllib.parse import quote

import pytest
from rest_framework.test import APIClient

from config import api
from tenants.models import Tenant
from tests.people import add_user, client_of

VIEWS: list[tuple[str, Any, str]] = api.tenant.registry
LISTS = [path for path, _, _ in VIEWS]
TIMED = [path for path, view, _ in VIEWS if "created_after" in view.filterset_class.base_filters]


@pytest.fixture
def client(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


def wrong(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return [(error["parameter"], error["code"]) for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    "name", ["statuss", "pageSize", "createdAfter", "created", "limit", "offset", "format", "STATUS", "id"]
)
def test_an_unknown_parameter_is_named_as_it_was_written(client: APIClient, name: str) -> None:
    for path in LISTS:
        assert wrong(client.get(f"/api/v1/{path}/?{name}=1")) == [(name, "unknown_parameter")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "users/me/"),
        ("patch", "users/me/"),
        ("post", "users/"),
        ("get", "users/01a2040f-3363-722a-9cc9-398661955af6/"),
        ("post", "jobs/01a2040f-3363-722a-9cc9-398661955af6/retry/"),
        ("post", "tokens/"),
        ("delete", "tokens/current/"),
        ("get", "schema/"),
        ("get", "docs/"),
    ],
)
def test_what_is_no_list_takes_no_parameters(client: APIClient, method: str, path: str) -> None:
    for name in ["status", "page_size", "cursor", "dry_run"]:
        assert wrong(getattr(client, method)(f"/api/v1/{path}?{name}=1")) == [(name, "unknown_parameter")]


@pytest.mark.django_db
def test_neither_does_the_public_host(public_client: APIClient) -> None:
    answer = public_client.post("/api/v1/tenants/?plan=free", {})
    assert wrong(answer) == [("plan", "unknown_parameter")]
    assert public_client.get("/api/v1/schema/?format=json").status_code == 200


@pytest.mark.parametrize("size", ["abc", "0", "-1", "201", "1.0", "1e1", "+5", "5_0", "%2050", "٥", "9" * 5000, "%00"])
def test_a_page_size_is_a_number_from_1_to_200(client: APIClient, size: str) -> None:
    for path in LISTS:
        assert wrong(client.get(f"/api/v1/{path}/?page_size={size}")) == [("page_size", "invalid")]


@pytest.mark.parametrize("size", ["1", "50", "200"])
def test_page_sizes(client: APIClient, size: str) -> None:
    for path in LISTS:
        assert client.get(f"/api/v1/{path}/?page_size={size}").status_code == 200


def test_a_parameter_comes_once_and_with_a_value(client: APIClient) -> None:
    for path in LISTS:
        for name in ["page_size", "cursor"]:
            assert wrong(client.get(f"/api/v1/{path}/?{name}=1&{name}=2")) == [(name, "repeated")]
            assert wrong(client.get(f"/api/v1/{path}/?{name}=")) == [(name, "blank")]
            assert wrong(client.get(f"/api/v1/{path}/?{name}")) == [(name, "blank")]


@pytest.mark.parametrize(
    "time",
    [
        "x",
        "2026-11-25",
        "2026-11-25T00:00:00",
        "2026-11-25 00:00:00Z",
        "2026-11-25T00:00Z",
        "2026-11-25T00:00:00 02:00",
        "2026-11-25T00:00:00+02",
        "2026-11-25T00:00:00+0200",
        "20261125T000000Z",
        "2026-W48-3T00:00:00Z",
        "2000-01-01T20:46:21+17:16",
        "2000-01-01T00:00:00+14:01",
        "2000-01-01T00:00:00-23:59",
        "2000-01-01T00:00:00+24:00",
        "2000-01-01T00:00:00+99:99",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "2026-02-30T00:00:00Z",
        "2026-11-25T24:00:01Z",
        "2026-11-25T23:59:60Z",
        "٢٠٢٦-11-25T00:00:00Z",
        "1764028800",
        "now",
        "\0",
        "2026-11-25T00:00:00Z\n",
    ],
)
def test_a_time_has_a_zone_and_is_one(client: APIClient, time: str) -> None:
    for path in TIMED:
        for name in ["created_after", "created_before"]:
            answer = client.get(f"/api/v1/{path}/?{name}={quote(time)}")
            assert wrong(answer) == [(name, "invalid")]
            assert "2026-11-25T00:00:00Z" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-25T00:00:00Z",
        "2026-11-25t00:00:00.5z",
        "2026-11-25T00:00:00.123456789Z",
        "2026-11-25T00:00:00+14:00",
        "2026-11-25T00:00:00-12:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_times(client: APIClient, time: str) -> None:
    for path in TIMED:
        for name in ("created_after", "created_before"):
            assert client.get(f"/api/v1/{path}/", {name: time}).status_code == 200


def test_all_that_is_wrong_is_told(client: APIClient) -> None:
    answer = client.get("/api/v1/messages/?statuss=sent&page_size=7&page_size=8&status=")
    assert wrong(answer) == [("statuss", "unknown_parameter"), ("page_size", "repeated"), ("status", "blank")]


@pytest.mark.parametrize("path", ["users/", "tokens/current/"])
def test_a_method_that_is_not_there_is_told_whatever_the_query(client: APIClient, path: str) -> None:
    assert client.put(f"/api/v1/{path}?statuss=sent").status_code == 405
