"""A database session is kept from one owner to the next; what an owner leaves in it, the next one does not find."""

import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import StringIO
from typing import Any

import pytest
from celery import current_app, shared_task, signals
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone, translation
from django_tenants.utils import schema_context

from jobs.celery_hooks.tracing import trace
from jobs.message import HEADER
from jobs.models import Job
from jobs.relay.process import planning_by_index
from tenants.binding import bind_to_public, bound_schema
from tenants.connection import connection
from tenants.context import copy_clean_context
from tenants.middleware import TenantMiddleware
from tenants.models import Tenant
from tenants.postgresql.statements import CLEANING
from tenants.session import end_request, start_request
from tenants.wsgi import OwnContext
from tests.jobs.claims import deliver
from tests.jobs.durables import atomic, bodies, groups, new_relay, open, sql
from tests.jobs.probes import probe
from tests.leftovers import LEFTOVERS, by_sql, leave_everything, what_is_found
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


def as_sweep(act: Act) -> list[Any]:
    """As a periodic task of the platform's, whose jobs are the tenants'."""
    seen: list[Any] = []

    def sweep(task: Any) -> None:
        seen.append(act())
        atomic.for_each_tenant_on_commit()

    bodies(sweep)
    trace(current_app.tasks[open.name], "0", {HEADER: {"schema": "public"}})
    return seen


def as_request(tenant: Tenant, act: Act) -> list[Any]:
    seen: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(act())
        return HttpResponse()

    def serve() -> None:
        start_request()
        TenantMiddleware(view)(RequestFactory().get("/", headers={"host": f"{tenant.slug}.localhost"}))
        end_request()

    copy_clean_context().run(serve)
    return seen


OWNERS: dict[str, Owner] = {
    "a durable job": as_task(atomic),
    "a durable job outside of transactions": as_task(open),
    "a plain task": as_plain_task,
    "a request": as_request,
}
LEFT_BEHIND = {
    **LEFTOVERS,
    "a read-only session": by_sql(
        "SET default_transaction_read_only = on", "SELECT current_setting('default_transaction_read_only') = 'on'"
    ),
    "a role": by_sql("SET ROLE pg_database_owner", "SELECT current_user <> session_user"),
}


def session() -> int:
    """Which session of the server this thread has."""
    connection.ensure_connection()
    return int(connection.connection.info.backend_pid)


@pytest.mark.parametrize("what", LEFT_BEHIND)
@pytest.mark.parametrize("owner", OWNERS)
def test_the_next_owner_does_not_find(acme: Tenant, globex: Tenant, owner: str, what: str) -> None:
    leave, is_there = LEFT_BEHIND[what]
    own = OWNERS[owner]
    before = session()

    own(acme, leave)
    found = own(globex, lambda: (session(), sql("SELECT 1"), is_there()))

    assert found == [(before, [(1,)], False)]


def test_a_plain_task_that_leaves_a_transaction_open_is_told_of(acme: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    """What it wrote is not committed, and nobody would hear of that."""

    def begin() -> None:
        sql("BEGIN")
        Group.objects.create(name="lost")

    as_plain_task(acme, begin)
    assert "atomic has left a transaction open" in caplog.text
    assert groups(acme.schema_name) == []


@pytest.mark.parametrize("own", [as_plain_task, as_task(atomic)], ids=["plain task", "job"])
def test_who_is_told_of_a_task_before_it_runs_is_bound_to_nothing(acme: Tenant, own: Owner) -> None:
    told: list[str | None] = []

    def tell(**kwargs: Any) -> None:
        told.append(bound_schema())

    signals.task_prerun.connect(tell)
    try:
        own(acme, lambda: None)
    finally:
        signals.task_prerun.disconnect(tell)
    assert told == [None]


found: list[Any] = []


@shared_task
def leaves(request: Any, exc: Exception, traceback: Any) -> None:
    leave_everything()


@shared_task
def finds(request: Any, exc: Exception, traceback: Any) -> None:
    found.append((connection.schema_name, what_is_found()))


def test_an_errback_that_celery_calls_in_place_finds_nothing_of_the_one_before(acme: Tenant, globex: Tenant) -> None:
    found.clear()
    for tenant, errback in ((acme, leaves), (globex, finds)):
        with schema_context(tenant.schema_name):
            header = {HEADER: {"schema": tenant.schema_name}}
            request = Context({"id": "0", "task": probe.name, "errbacks": [errback.s()], "headers": header, **header})
        current_app.backend.mark_as_failure("0", ValueError(), request=request)
    assert found == [(globex.schema_name, [])]


@pytest.mark.parametrize("what", ["an advisory lock", "a limit"])
@pytest.mark.parametrize("owner", ["a durable job outside of transactions", "a plain task"])
def test_the_next_owner_does_not_find_what_one_that_failed_has_left(
    acme: Tenant, globex: Tenant, owner: str, what: str
) -> None:
    leave, is_there = LEFT_BEHIND[what]
    own = OWNERS[owner]

    def act() -> None:
        leave()
        raise ValueError("it fails")

    own(acme, act)
    assert own(globex, is_there) == [False]


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
def test_a_sweep_and_the_owners_around_it_find_nothing_of_each_other(acme: Tenant, globex: Tenant, owner: str) -> None:
    OWNERS[owner](acme, leave_everything)
    [found_by_the_sweep] = as_sweep(lambda: (what_is_found(), leave_everything()))
    [found] = OWNERS[owner](globex, what_is_found)

    assert found_by_the_sweep == ([], list(LEFTOVERS))
    assert found == []


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


def test_a_statement_that_a_time_limit_left_running_keeps_no_lock(acme: Tenant, globex: Tenant) -> None:
    def work() -> None:
        sql("SELECT pg_advisory_lock(42)")
        with pytest.raises(SoftTimeLimitExceeded), soft_limit():
            sql("SELECT pg_sleep(60)")

    as_request(acme, work)
    as_request(globex, lambda: sql("SET lock_timeout = '10s'; SELECT pg_advisory_lock(42)"))


def test_a_body_may_close_a_connection_that_a_time_limit_left_active(acme: Tenant) -> None:
    def work() -> list[Any]:
        try:
            with soft_limit():
                sql("SELECT pg_sleep(60)")
        except SoftTimeLimitExceeded:
            connection.close()
        return sql("SELECT 1")

    assert as_request(acme, work) == [[(1,)]]


def soft_limit() -> AbstractContextManager[None]:
    """As a child of a prefork pool has it: an exception in the midst of things."""
    return interrupted(SoftTimeLimitExceeded)


@contextmanager
def interrupted(by: type[BaseException]) -> Iterator[None]:
    def interrupt(*args: Any) -> None:
        raise by

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Bored(BaseException):
    """As gevent's Timeout, no Exception."""


@pytest.mark.parametrize("block", [transaction.atomic, nullcontext])
def test_what_is_no_exception_ends_a_statement_and_not_the_session(acme: Tenant, block: Any) -> None:
    def act() -> None:
        sql("CREATE TABLE kept ()")
        with suppress(Bored), interrupted(Bored), block():
            sql("SELECT pg_sleep(60)")
        sql("DROP TABLE kept")

    as_request(acme, act)


def test_what_is_no_exception_ends_a_savepoint_and_not_what_is_around_it(acme: Tenant) -> None:
    def act() -> None:
        with transaction.atomic():
            sql("CREATE TABLE kept ()")
            with suppress(Bored), interrupted(Bored), transaction.atomic():
                sql("SELECT pg_sleep(60)")
            sql("DROP TABLE kept")

    as_request(acme, act)


def test_the_cleaning_costs_no_message(acme: Tenant) -> None:
    as_request(acme, lambda: None)
    with queries() as sent:
        as_request(acme, lambda: None)
        as_request(acme, lambda: None)
    assert len(sent) == 2
    for message in sent:
        assert message.startswith(b"; ".join(CLEANING).decode())
        assert "tenants_domain" in message


def test_a_request_without_a_response_leaves_no_transaction_open(acme: Tenant) -> None:
    """As one that the server's own time limit ends."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_request()
        connection.set_tenant(acme)
        sql("BEGIN")
        raise SystemExit

    with pytest.raises(SystemExit):
        OwnContext(application)({}, lambda: None)

    assert not connection.in_transaction()


# Owners inside of owners


def run_eagerly(globex: Tenant) -> None:
    with schema_context(globex.schema_name):
        probe.apply(("inner",))


def request_by_a_test_client(globex: Tenant) -> None:
    response = Client(headers={"host": "globex.localhost"}).get("/nowhere/")
    assert response.status_code == 404


def call_a_command(globex: Tenant) -> None:
    with schema_context(globex.schema_name):
        call_command("showmigrations", "auth", stdout=StringIO())


INNER: dict[str, Callable[[Tenant], Any]] = {
    "an eager task": run_eagerly,
    "a request of a test client": request_by_a_test_client,
    "a command": call_a_command,
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("owner", OWNERS)
def test_what_runs_inside_an_owner_takes_nothing_from_it(acme: Tenant, globex: Tenant, owner: str, inner: str) -> None:
    def act() -> tuple[list[str], list[str], Any]:
        left = leave_everything()
        with transaction.atomic():
            Group.objects.create(name="of acme")
            INNER[inner](globex)
        kept = [name for name in left if LEFTOVERS[name].is_there()]
        return left, kept, (connection.schema_name, groups(acme.schema_name))

    [(left, kept, seen)] = OWNERS[owner](acme, act)
    # A DO, by which the notice is asked for, puts the session's path back by itself.
    assert kept == [name for name in left if name != "a search path"]
    assert seen == (acme.schema_name, ["of acme"])


def test_the_relay_keeps_its_own_settings(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        job_id = atomic.delay_on_commit()
    with planning_by_index():
        relay = new_relay()
        relay.publisher.connect()
        assert relay.tick() == 1
        assert relay.tick() == 0
        assert sql("SHOW enable_seqscan") == [("off",)]
        relay.publisher.close()

    assert Job.objects.get().pk == uuid.UUID(job_id)


def test_migrations_keep_what_they_set(acme: Tenant) -> None:
    """They have no owner, so nothing is cleaned from one statement, or tenant, to the next."""
    sql("SET lock_timeout = '7s'; SELECT pg_advisory_lock(42)")
    call_command("migrate_tenants", stdout=StringIO())

    assert sql("SHOW lock_timeout") == [("7s",)]
    assert LEFTOVERS["an advisory lock"].is_there()


def test_an_owner_inside_another_one_cleans_nothing(acme: Tenant) -> None:
    """As the request of a test client in a test's transaction."""
    with transaction.atomic():
        sql("SET LOCAL statement_timeout = '1h'")
        as_request(acme, lambda: None)
        assert sql("SHOW statement_timeout") == [("1h",)]


def on_the_public_host(act: Act) -> Any:
    """Which looks up no tenant, so that the first statement is the view's."""
    seen: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        bind_to_public()
        seen.append(act())
        return []

    OwnContext(application)({}, lambda: None).close()
    return seen


@pytest.mark.parametrize("leave", ["SET client_encoding = 'LATIN1'", "SET standard_conforming_strings = off"])
@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("comes_next", [as_sweep, on_the_public_host])
def test_a_first_statement_of_ones_own_is_read_as_in_a_new_session(
    acme: Tenant, comes_next: Callable[[Act], Any], owner: str, leave: str
) -> None:
    OWNERS[owner](acme, lambda: sql(leave))
    assert comes_next(lambda: sql("SELECT %s, '\\d'", "日本")) == [[("日本", "\\d")]]
