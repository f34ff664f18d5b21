"""A request's statements, and its waits for locks, have an end, at which the client gets 503. Jobs have their own."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.db import DatabaseError, transaction
from django.test import RequestFactory
from django_tenants.utils import schema_context, tenant_context
from knox.models import AuthToken
from pytest_django import Settings

from config.codes import REGISTRY
from config.problems import server_error
from devstack.ports import answers, free_port
from devstack.processes import Process
from tenants.connection import connection
from tenants.models import Tenant
from tenants.outage import is_busy
from tenants.wsgi import OwnContext
from tests.jobs.claims import deliver
from tests.jobs.durables import atomic, bodies, sql
from tests.people import add_user

pytestmark = pytest.mark.usefixtures("committed_db")

LIMITS = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
OURS = [("15s", "5s")]
NONE = [("0", "0")]
ORDER = {
    "currency": "EUR",
    "payment_token": "tok_ok",
    "lines": [{"description": "Tea", "quantity": 1, "unit_amount": 1}],
}


def as_request(act: Callable[[], Any]) -> Any:
    """What it returns inside of a request, as a web server makes one."""
    seen: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with schema_context("public"):
            seen.append(act())
        return [b""]

    response = OwnContext(application)({}, lambda *_: None)
    assert list(response) == [b""]
    response.close()
    return seen[0]


def limits() -> list[Any]:
    return sql(LIMITS)


def in_a_transaction() -> list[Any]:
    with transaction.atomic():
        return limits()


def after_a_rollback() -> list[Any]:
    with transaction.atomic():
        sql("SELECT 1")
        transaction.set_rollback(True)
    return limits()


def on_a_new_connection() -> list[Any]:
    connection.close()
    return limits()


def by_psycopg() -> list[Any]:
    connection.ensure_connection()
    with connection.connection.transaction(), connection.connection.cursor() as cursor:
        return list(cursor.execute(LIMITS).fetchall())


@pytest.mark.parametrize("look", [limits, in_a_transaction, after_a_rollback, on_a_new_connection, by_psycopg])
def test_a_request_has_limits(look: Callable[[], list[Any]]) -> None:
    assert as_request(look) == OURS
    assert as_request(look) == OURS


def test_a_request_may_set_limits_of_its_own() -> None:
    def look() -> list[Any]:
        sql("SET statement_timeout = '1h'")
        return limits()

    assert as_request(look) == [("1h", "5s")]
    assert as_request(limits) == OURS


def test_jobs_and_what_else_comes_after_a_request_have_no_limits_of_its(acme: Tenant) -> None:
    seen: list[Any] = []
    bodies(lambda task: seen.append(limits()))
    with tenant_context(acme):
        job = atomic.delay_on_commit()

    as_request(limits)
    assert limits() == NONE
    as_request(limits)
    deliver(job)
    assert seen == [NONE]


def test_a_limit_may_be_switched_off(settings: Settings) -> None:
    settings.REQUEST_STATEMENT_SECONDS = settings.REQUEST_LOCK_SECONDS = 0
    assert as_request(limits) == NONE


# What a client gets


Ask = Callable[[], httpx.Response]


@pytest.fixture
def ask(acme: Tenant, tmp_path: Path) -> Callable[..., AbstractContextManager[Ask]]:
    """Places an order by a web with these limits."""
    with tenant_context(acme):
        _, token = AuthToken.objects.create(user=add_user(acme, "ada"))

    @contextmanager
    def start(**limits: str) -> Iterator[Ask]:
        port = free_port()
        headers = {"Host": "acme.localhost", "Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{port}/api/v1/orders/"
        env = {"GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port} --workers=1", **limits}
        with Process.from_procfile("web", log=tmp_path / "web.log", env=env, ready=lambda: answers(port)):
            yield lambda: httpx.post(url, json=ORDER, headers=headers, trust_env=False, timeout=60)

    return start


@pytest.mark.skipif(not apps.is_installed("billing"), reason="an order needs it")
@pytest.mark.parametrize("limit", ["REQUEST_LOCK_SECONDS", "REQUEST_STATEMENT_SECONDS"])
def test_an_order_that_waits_too_long_gets_503(
    ask: Callable[..., AbstractContextManager[Ask]], acme: Tenant, limit: str
) -> None:
    none = {"REQUEST_LOCK_SECONDS": "0", "REQUEST_STATEMENT_SECONDS": "0"}
    with ask(**{**none, limit: "0.5"}) as place:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f'LOCK TABLE "{acme.schema_name}".billing_orderline IN SHARE MODE')
            answer = place()
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["code"] == "database_busy"
        assert place().status_code == 201
    with tenant_context(acme):
        assert sql("SELECT count(*) FROM billing_order") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "busy"),
    [
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)", True),
        ("SET LOCAL lock_timeout = 1; DO $$ BEGIN RAISE lock_not_available; END $$", True),
        ("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", True),
        ("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", True),
        ("SELECT 1/0", False),
        ("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$", False),
        ("DO $$ BEGIN RAISE SQLSTATE '57P01'; END $$", False),
    ],
)
def test_what_says_that_the_database_is_busy(statement: str, busy: bool) -> None:
    """Also outside of the API, where Django answers."""
    away = "57P01" in statement
    expected = "database_busy" if busy else "database_away" if away else "server_error"
    try:
        sql(statement)
    except DatabaseError as error:
        answer, said = server_error(RequestFactory().get("/admin/")), is_busy(error)
    connection.close()
    assert said is busy
    assert (answer.status_code, json.loads(answer.content)["code"]) == (REGISTRY[expected].status, expected)
