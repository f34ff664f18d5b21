"""Pages of other origins may call the API from a browser, if CORS_ALLOWED_ORIGINS names them."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings
from rest_framework.test import APIClient

from tenants.models import Tenant
from tests.people import add_user, client_of

APP = "https://app.example.com"
ME = "/api/v1/users/me/"
SENT = {
    "authorization",
    "content-type",
    "idempotency-key",
    "if-modified-since",
    "if-none-match",
    "tenant",
    "x-request-id",
}
READ = {"etag", "idempotent-replayed", "location", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id"}
READ |= {"deprecation", "link", "sunset"}
STRANGERS = ["https://evil.example", "http://app.example.com", f"{APP}:8443", f"{APP}.evil.example"]
STRANGERS += ["null", "*", "", "http://[", "é"]


@pytest.fixture
def _allowed() -> Iterator[None]:
    with override_settings(CORS_ALLOWED_ORIGINS=[APP]):
        yield


def preflight(host: str, *, origin: str = APP, path: str = ME) -> Any:
    headers = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization,tenant"}
    return APIClient(headers={"host": host, "origin": origin, **headers}).options(path)


def named(response: Any, header: str) -> set[str]:
    return {name.lower() for name in response[header].split(", ")}


@pytest.mark.usefixtures("_allowed")
@pytest.mark.parametrize("host", ["acme.localhost", "initech.localhost", "localhost", "localhost:8000"])
@pytest.mark.parametrize("path", [ME, "/api/v1/tenants/", "/api/v1/nowhere/"])
def test_a_preflight_needs_no_token(acme: Tenant, host: str, path: str) -> None:
    answer = preflight(host, path=path)

    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == APP
    assert named(answer, "Access-Control-Allow-Headers") >= SENT
    assert {"delete", "get", "patch", "post"} <= named(answer, "Access-Control-Allow-Methods")
    assert "Access-Control-Allow-Credentials" not in answer


@pytest.mark.usefixtures("_allowed")
@pytest.mark.parametrize("status", ["provisioning", "suspended", "deleting", "failed"])
def test_whatever_the_tenants_status(acme: Tenant, status: str) -> None:
    Tenant.objects.update(status=status)
    assert preflight("acme.localhost")["Access-Control-Allow-Origin"] == APP


@pytest.mark.usefixtures("_allowed")
def test_a_page_reads_answers_and_their_headers(acme: Tenant) -> None:
    answer = client_of(acme, add_user(acme, "ada")).get(ME, headers={"origin": APP})

    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == APP
    assert named(answer, "Access-Control-Expose-Headers") >= READ
    assert {"origin", "tenant"} <= named(answer, "Vary")


@pytest.mark.usefixtures("_allowed")
@pytest.mark.parametrize(
    ("host", "tenant", "status"),
    [
        ("acme.localhost", None, 401),
        ("initech.localhost", None, 404),
        ("localhost", "initech", 404),
        ("acme.localhost", "globex", 400),
        ("a_\x00", None, 400),
    ],
)
def test_a_page_reads_problems(acme: Tenant, host: str, tenant: str | None, status: int) -> None:
    headers = {"host": host, "origin": APP} | ({"tenant": tenant} if tenant else {})
    answer = APIClient(headers=headers).get(ME)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert answer["Access-Control-Allow-Origin"] == APP


@pytest.mark.usefixtures("_allowed")
@pytest.mark.parametrize("origin", STRANGERS)
def test_nobody_else_is_allowed(acme: Tenant, origin: str) -> None:
    answer = preflight("acme.localhost", origin=origin)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer


def test_it_is_off_by_default(acme: Tenant) -> None:
    for answer in (preflight("acme.localhost"), APIClient(headers={"host": "acme.localhost", "origin": APP}).get(ME)):
        assert "Access-Control-Allow-Origin" not in answer


@pytest.mark.usefixtures("_allowed")
@pytest.mark.django_db
def test_the_admin_is_for_its_own_pages_alone() -> None:
    assert "Access-Control-Allow-Origin" not in preflight("localhost", path="/admin/login/")


@pytest.mark.parametrize("origin", ["app.example.com", "*", "https://app.example.com/path", "https://"])
def test_what_is_no_origin_is_found_by_the_checks(origin: str) -> None:
    with (
        override_settings(CORS_ALLOWED_ORIGINS=[origin]),
        pytest.raises(SystemCheckError, match="CORS_ALLOWED"),
    ):
        call_command("check")
