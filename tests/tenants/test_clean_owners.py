"""A database session is kept from one owner to the next; what an owner leaves in it, the next one does not find."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils import timezone, translation
from django_tenants.utils import schema_context

from jobs.celery_hooks.tracing import trace
from jobs.message import HEADER
from tenants.connection import connection
from tenants.middleware import TenantMiddleware
from tenants.models import Tenant
from tenants.session import end_request, start_request
from tests.jobs.claims import deliver
from tests.jobs.durables import atomic, bodies, groups, open, sql
from tests.people import at_once
from tests.wire import queries

pytestmark = pytest.mark.usefixtures("committed_db")

Act = Callable[[], Any]
Owner = Callable[[Tenant, Act], Any]


def as_task(task: Any) -> Owner:
    """As a worker runs it, in this process."""

    def own(tenant: Tenant, act: Act) -> list[Any]:
        seen: list[Any] = []
        bodies(lambda task: seen.append(act()))
        with schema_context(tenant.schema_name):
            job_id = task.delay_on_commit()
        deliver(job_id)
        return seen

    return own


def as_plain_task(tenant: Tenant, act: Act) -> list[Any]:
    seen: list[Any] = []
    bodies(lambda task: seen.append(act()))
    trace(current_app.tasks[atomic.name], "0", {HEADER: {"schema": tenant.schema_name}})
    return seen


def as_request(tenant: Tenant, act: Act) -> list[Any]:
    seen: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(act())
        return HttpResponse()

    start_request()
    TenantMiddleware(view)(RequestFactory().get("/", headers={"host": f"{tenant.slug}.localhost"}))
    end_request()
    return seen


OWNERS: dict[str, Owner] = {
    "a durable job": as_task(atomic),
    "a durable job outside of transactions": as_task(open),
    "a plain task": as_plain_task,
    "a request": as_request,
}
# What one owner executes, and what the next one asks, for which the answer is no.
LEFT_BEHIND = {
    "a temporary table": (
        "CREATE TEMP TABLE staging AS SELECT 1",
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'staging')",
    ),
    "a temporary table that hides a real one": (
        "CREATE TEMP TABLE auth_group AS SELECT * FROM auth_group",
        "SELECT to_regclass('auth_group') IS DISTINCT FROM to_regclass(quote_ident(current_schema()) || '.auth_group')",
    ),
    "a limit": ("SET statement_timeout = '1h'", "SELECT current_setting('statement_timeout') <> '0'"),
    "a time zone": ("SET timezone = 'Asia/Tokyo'", "SELECT current_setting('timezone') = 'Asia/Tokyo'"),
    "commits that are not flushed": (
        "SET synchronous_commit = off",
        "SELECT current_setting('synchronous_commit') = 'off'",
    ),
    "row security that is off": ("SET row_security = off", "SELECT current_setting('row_security') = 'off'"),
    "a read-only session": (
        "SET default_transaction_read_only = on",
        "SELECT current_setting('default_transaction_read_only') = 'on'",
    ),
    "a search path": ("SET search_path = pg_catalog", "SELECT current_schema() = 'pg_catalog'"),
    "a setting of its own": (
        "SET app.secret = 'x'",
        "SELECT coalesce(current_setting('app.secret', true), '') <> ''",
    ),
    "a role": ("SET ROLE pg_database_owner", "SELECT current_user <> session_user"),
    "an advisory lock": (
        "SELECT pg_advisory_lock(42)",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND pid = pg_backend_pid())",
    ),
    "a channel": ("LISTEN gossip", "SELECT EXISTS (SELECT FROM pg_listening_channels())"),
    "a prepared statement": ("PREPARE kept AS SELECT 1", "SELECT EXISTS (SELECT FROM pg_prepared_statements)"),
    "a cursor": (
        "DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
        "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'kept')",
    ),
}


def session() -> int:
    """Which session of the server this thread has."""
    connection.ensure_connection()
    return int(connection.connection.info.backend_pid)


def ask(question: str) -> bool:
    [[answer]] = sql(question)
    return bool(answer)


@pytest.mark.parametrize("what", LEFT_BEHIND)
@pytest.mark.parametrize("owner", OWNERS)
def test_the_next_owner_does_not_find(acme: Tenant, globex: Tenant, owner: str, what: str) -> None:
    leaves, question = LEFT_BEHIND[what]
    own = OWNERS[owner]
    before = session()

    own(acme, lambda: sql(leaves))
    found = own(globex, lambda: (ask(question), session()))

    assert found == [(False, before)]


@pytest.mark.parametrize("what", ["an advisory lock", "a limit"])
@pytest.mark.parametrize("owner", ["a durable job outside of transactions", "a plain task"])
def test_the_next_owner_does_not_find_what_one_that_failed_has_left(
    acme: Tenant, globex: Tenant, owner: str, what: str
) -> None:
    leaves, question = LEFT_BEHIND[what]
    own = OWNERS[owner]

    def act() -> None:
        sql(leaves)
        raise ValueError("it fails")

    own(acme, act)
    assert own(globex, lambda: ask(question)) == [False]


@pytest.mark.parametrize("owner", OWNERS)
def test_rows_of_one_tenant_are_not_carried_into_another(acme: Tenant, globex: Tenant, owner: str) -> None:
    """As bodies do that merge what they have staged."""

    def stage_and_merge() -> None:
        sql("CREATE TEMP TABLE IF NOT EXISTS staging (name text)")
        sql("INSERT INTO staging SELECT current_schema()")
        sql("INSERT INTO auth_group (name) SELECT name FROM staging")

    OWNERS[owner](acme, stage_and_merge)
    OWNERS[owner](globex, stage_and_merge)

    assert groups(acme.schema_name) == [acme.schema_name]
    assert groups(globex.schema_name) == [globex.schema_name]


@pytest.mark.parametrize("owner", OWNERS)
def test_the_next_owner_has_djangos_own_language_and_time_zone(acme: Tenant, globex: Tenant, owner: str) -> None:
    def activate() -> None:
        translation.activate("de")
        timezone.activate("Asia/Tokyo")

    OWNERS[owner](acme, activate)
    seen = OWNERS[owner](globex, lambda: (translation.get_language(), timezone.get_current_timezone_name()))

    assert seen == [("en-us", "UTC")]


@pytest.mark.parametrize("owner", OWNERS)
def test_the_first_owner_of_a_session_that_rolls_back_does_not_undo_the_cleaning(
    acme: Tenant, globex: Tenant, owner: str
) -> None:
    def roll_back() -> None:
        with transaction.atomic():
            sql("SELECT 1")
            transaction.set_rollback(True)

    OWNERS[owner](acme, lambda: sql("SET statement_timeout = '1h'"))
    if owner == "a durable job":  # it is in a transaction of its own
        OWNERS[owner](globex, lambda: sql("SELECT 1 / 0"))
    else:
        OWNERS[owner](globex, roll_back)

    assert sql("SHOW statement_timeout") == [("0",)]


def test_a_transaction_that_a_request_began_by_hand_ends_with_it(acme: Tenant, globex: Tenant) -> None:
    as_request(acme, lambda: sql("BEGIN"))
    as_request(globex, lambda: Group.objects.create(name="kept"))

    [names] = at_once(lambda: groups(globex.schema_name))
    assert names == ["kept"]


def test_a_request_that_turns_autocommit_off_costs_the_next_one_no_row(acme: Tenant, globex: Tenant) -> None:
    as_request(acme, lambda: transaction.set_autocommit(False))
    as_request(globex, lambda: Group.objects.create(name="kept"))

    [names] = at_once(lambda: groups(globex.schema_name))
    assert names == ["kept"]


def test_the_cleaning_costs_no_message(acme: Tenant) -> None:
    as_request(acme, lambda: None)
    with queries() as sent:
        as_request(acme, lambda: None)
    [message] = sent
    assert message.startswith("BEGIN; RESET SESSION AUTHORIZATION; ")
    assert "tenants_domain" in message


def test_an_owner_inside_another_one_cleans_nothing(acme: Tenant) -> None:
    """As the request of a test client in a test's transaction."""
    with transaction.atomic():
        sql("SET LOCAL statement_timeout = '1h'")
        as_request(acme, lambda: None)
        assert sql("SHOW statement_timeout") == [("1h",)]
