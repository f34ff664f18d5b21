"""What the operator reads of each request: who asked from where, in which organisation, and how long it took."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from accounts.models import User
from config import logs
from tenants import log_lines
from tenants.models import Tenant
from tests.people import PASSWORD, add_user, client_of

ME = "/api/v1/users/me/"
HERE = "192.0.2.7"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], Any]:
    """The line of the last request."""

    caplog.set_level(logging.INFO, "tenantry.requests")

    def told() -> Any:
        return [record for record in caplog.records if record.name == "tenantry.requests"][-1]

    return told


def test_a_request_names_address_user_organisation_and_duration(acme: Tenant, told: Callable[[], Any]) -> None:
    ada = add_user(acme, "ada", "owner")
    client_of(acme, ada).get(ME, REMOTE_ADDR=HERE)
    line = told()
    assert (line.levelname, line.method, line.path, line.status) == ("INFO", "GET", ME, 200)
    assert (line.address, line.tenant, line.user) == (HERE, "acme", str(ada.pk))
    assert isinstance(line.milliseconds, int)
    assert not hasattr(line, "limit")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer " + "a" * 64}])
def test_a_refusal_is_a_warning(acme: Tenant, told: Callable[[], Any], headers: dict[str, str]) -> None:
    APIClient(headers={"host": "acme.localhost", **headers}, REMOTE_ADDR=HERE).get(ME)
    line = told()
    assert (line.levelname, line.status, line.address, line.tenant) == ("WARNING", 401, HERE, "acme")
    assert not hasattr(line, "user")


def test_a_member_who_may_not_is_named(acme: Tenant, told: Callable[[], Any]) -> None:
    alan = add_user(acme, "alan")
    client_of(acme, alan).get("/api/v1/jobs/")
    line = told()
    assert (line.levelname, line.status, line.tenant, line.user) == ("WARNING", 403, "acme", str(alan.pk))


def test_a_failed_log_in_is_a_refusal(acme: Tenant, told: Callable[[], Any]) -> None:
    client = APIClient(headers={"host": "localhost", "tenant": "acme"}, REMOTE_ADDR=HERE)
    client.post("/api/v1/tokens/", {"email": "ada@acme.example", "password": "wrong"})
    line = told()
    assert (line.levelname, line.status, line.address, line.tenant) == ("WARNING", 401, HERE, "acme")


@pytest.mark.parametrize(("policy", "tenant"), [("address", None), ("user", "acme"), ("tenant", "acme")])
def test_a_throttled_request_names_the_limit(
    acme: Tenant, told: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, policy: str, tenant: str | None
) -> None:
    ada = add_user(acme, "ada", "owner")
    client = client_of(acme, ada)
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {policy: "1/day"})
    here = f"203.0.113.{len(policy)}"
    client.get(ME, REMOTE_ADDR=here)
    client.get(ME, REMOTE_ADDR=here)
    line = told()
    assert (line.levelname, line.status, line.address, line.limit) == ("WARNING", 429, here, policy)
    assert getattr(line, "user", None) == (str(ada.pk) if tenant else None)
    assert getattr(line, "tenant", None) == tenant


@pytest.mark.django_db
def test_staff_is_named(told: Callable[[], Any]) -> None:
    sam = User.objects.create_superuser("sam@tenantry.example", "Sam Staff", PASSWORD)
    client = Client(headers={"host": "localhost"})
    client.force_login(sam)
    client.get("/admin/", REMOTE_ADDR=HERE)
    assert (told().user, told().address) == (str(sam.pk), HERE)
    assert not hasattr(told(), "tenant")


def test_behind_proxies_it_is_the_clients_address(acme: Tenant, told: Callable[[], Any], settings: Settings) -> None:
    settings.NUM_PROXIES = 2
    client = APIClient(headers={"host": "acme.localhost", "x-forwarded-for": f"x, {HERE}, 203.0.113.1"})
    client.get(ME)
    assert told().address == HERE


def test_to_ask_for_the_user_is_no_query(
    acme: Tenant, told: Callable[[], Any], django_assert_num_queries: Callable[[int], Any]
) -> None:
    client = APIClient(headers={"host": "acme.localhost"})
    client.cookies["sessionid"] = "a" * 32
    with django_assert_num_queries(1):  # the tenant's
        client.get("/api/v1/nothing/")
    assert told().status == 404


def test_the_lines_are_written_with_all_that(acme: Tenant, told: Callable[[], Any]) -> None:
    ada = add_user(acme, "ada", "owner")
    client_of(acme, ada).get(ME, REMOTE_ADDR=HERE)
    written = json.loads(log_lines.formatter(json=True, told=logs.TOLD).format(told()))
    assert written["event"] == "request"
    assert {"address": HERE, "tenant": "acme", "user": str(ada.pk), "status": 200}.items() <= written.items()
    assert written["milliseconds"] >= 0


def test_a_refusal_is_one_line(acme: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    APIClient(headers={"host": "acme.localhost"}).get(ME)
    APIClient(headers={"host": "acme.localhost"}).get("/api/v1/nothing/")
    lines = [record.message for record in caplog.records if record.name.startswith(("django.", "tenantry."))]
    assert lines == ["request", "request"]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("%0a%0dx", r"\n\rx"), ("%1b[31m", r"\x1b[31m"), ("%c2%9b", r"\x9b"), ("%e2%80%ae", r"\u202e"), ("%c3%a9", "é")],
)
@pytest.mark.parametrize("json", [False, True])
def test_what_a_client_sends_steers_no_terminal(
    acme: Tenant, told: Callable[[], Any], json: bool, sent: str, shown: str
) -> None:
    APIClient(headers={"host": "acme.localhost"}).get(f"/api/v1/{sent}/")
    written = log_lines.formatter(json=json, told=logs.TOLD).format(told())
    assert written.isprintable()
    if not json:
        assert f"path=/api/v1/{shown}/" in written


def test_our_own_words_keep_their_lines() -> None:
    line = {"event": "two\nlines\x1b", "path": "/\n", "status": 200}
    assert log_lines.escape_controls(None, "", line) == {"event": "two\nlines\\x1b", "path": "/\\n", "status": 200}


def test_a_tenant_that_is_being_set_up_is_no_error(
    acme: Tenant, told: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=Tenant.Status.PROVISIONING)
    APIClient(headers={"host": "acme.localhost"}).get(ME)
    assert (told().levelname, told().status) == ("WARNING", 503)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_fault_is_an_error_whatever_it_is_answered_with() -> None:
    def line(status: int, **fields: Any) -> logging.LogRecord:
        record = {"name": "django.request", "level": logging.ERROR, "status_code": status, **fields}
        return logging.makeLogRecord(record)

    assert not logs.is_unforeseen(line(503))
    assert logs.is_unforeseen(line(500))
    assert logs.is_unforeseen(line(503, exc_info=(ValueError, ValueError(), None)))
