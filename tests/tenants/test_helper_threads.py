"""What outlives its owner: a thread that is kept, a block that nobody leaves, a hook that runs later."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import Context, copy_context
from functools import partial
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.db.transaction import TransactionManagementError
from django_tenants.utils import schema_context
from psycopg.sql import SQL, Literal

from devstack.processes import wait_until
from tenants.connection import connection
from tenants.context import copy_clean_context
from tenants.models import Tenant
from tenants.session import end_owner, start_owner
from tenants.wsgi import OwnContext
from tests.jobs.durables import groups, sql
from tests.jobs.probes import probe

pytestmark = pytest.mark.usefixtures("committed_db")

Deed = Callable[[], Any]
LOOK = "SELECT current_schema(), to_regclass('pg_temp.staging') IS NULL, current_setting('statement_timeout')"


@pytest.fixture
def kept() -> Iterator[ThreadPoolExecutor]:
    """A thread that serves one owner after the other, with the connection that it has made."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        pool.submit(lambda: connection.close()).result()


@pytest.fixture
def elsewhere() -> Iterator[psycopg.Connection[Any]]:
    """Another session."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
        yield session


def with_its_context(pool: ThreadPoolExecutor, tenant: Tenant, deed: Deed) -> Any:
    def own() -> Any:
        start_owner()
        with schema_context(tenant.schema_name):
            result = pool.submit(copy_context().run, deed).result()
        end_owner()
        return result

    return copy_context().run(own)


def with_the_schema(pool: ThreadPoolExecutor, tenant: Tenant, deed: Deed) -> Any:
    def enter() -> Any:
        with schema_context(tenant.schema_name):
            return deed()

    return pool.submit(enter).result()


WAYS = pytest.mark.parametrize("way", [with_its_context, with_the_schema])


def leave_a_mess() -> int:
    sql("CREATE TEMP TABLE staging (name text)")
    sql("SET statement_timeout = '7s'")
    return int(connection.connection.info.backend_pid)


@WAYS
def test_a_kept_threads_session_is_cleaned_for_the_next_owner(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor, way: Any
) -> None:
    session = way(kept, acme, leave_a_mess)

    assert way(kept, globex, lambda: sql(LOOK)) == [(globex.schema_name, True, "0")]
    assert way(kept, globex, lambda: connection.connection.info.backend_pid) == session


@WAYS
@pytest.mark.parametrize("begin", [nullcontext, lambda: connection.connection.transaction()])
def test_it_is_cleaned_for_psycopgs_cursors_too(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor, way: Any, begin: Callable[[], Any]
) -> None:
    def look() -> Any:
        with begin():
            return connection.connection.execute(LOOK).fetchall()

    way(kept, acme, leave_a_mess)

    assert way(kept, globex, look) == [(globex.schema_name, True, "0")]


def test_psycopgs_cursors_do_not_join_a_transaction_that_was_left_open(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor
) -> None:
    with_its_context(kept, acme, begin)
    with pytest.raises(TransactionManagementError):
        with_its_context(kept, globex, lambda: connection.connection.execute("SELECT 1"))


def begin() -> None:
    sql("BEGIN")
    Group.objects.create(name="never committed")


def test_a_transaction_that_was_left_open_there_is_not_the_next_owners(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor
) -> None:
    with_its_context(kept, acme, begin)
    with_its_context(kept, globex, lambda: Group.objects.create(name="kept"))

    assert (groups(acme.schema_name), groups(globex.schema_name)) == ([], ["kept"])


def test_one_that_a_block_has_left_open_raises_in_the_next_block(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor
) -> None:
    with_the_schema(kept, acme, begin)
    with pytest.raises(TransactionManagementError, match="rolled back"):
        with_the_schema(kept, globex, lambda: Group.objects.create(name="not yet"))
    with_the_schema(kept, globex, lambda: Group.objects.create(name="kept"))

    assert (groups(acme.schema_name), groups(globex.schema_name)) == ([], ["kept"])


def test_one_owner_keeps_what_it_has_in_its_helper_thread(acme: Tenant, kept: ThreadPoolExecutor) -> None:
    def use_twice() -> Any:
        start_owner()
        with schema_context(acme.schema_name):
            kept.submit(copy_context().run, leave_a_mess).result()
            return kept.submit(copy_context().run, sql, LOOK).result()

    assert copy_context().run(use_twice) == [(acme.schema_name, False, "7s")]


def test_several_blocks_may_share_the_transaction_around_them(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor
) -> None:
    @transaction.atomic
    def write() -> None:
        for tenant in (acme, globex):
            with schema_context(tenant.schema_name):
                Group.objects.create(name=tenant.slug)

    kept.submit(write).result()

    assert (groups(acme.schema_name), groups(globex.schema_name)) == (["acme"], ["globex"])


def test_a_request_that_leaves_an_atomic_block_open_does_not_harm_the_next_one(acme: Tenant, globex: Tenant) -> None:
    left: list[Any] = []

    def hold() -> Iterator[None]:
        with transaction.atomic():
            sql("SELECT 1")
            yield

    def leave_open() -> None:
        left.append(hold())
        next(left[0])

    def serve(tenant: Tenant, deed: Deed) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            with schema_context(tenant.schema_name):
                deed()
            return [b""]

        OwnContext(application)({}, lambda *_: None).close()

    serve(acme, leave_open)
    serve(globex, lambda: Group.objects.create(name="kept"))

    assert groups(globex.schema_name) == ["kept"]
    left[0].close()


def test_a_hook_runs_at_home_whatever_is_bound_at_the_commit(acme: Tenant, globex: Tenant) -> None:
    def hook() -> None:
        Group.objects.create(name="by a hook")
        probe.delay_on_commit("by a hook")

    with schema_context(globex.schema_name), transaction.atomic(), schema_context(acme.schema_name):
        transaction.on_commit(hook)

    assert (groups(acme.schema_name), groups(globex.schema_name)) == (["by a hook"], [])
    assert sql("SELECT tenant_id FROM public.jobs_job") == [(acme.id,)]


@pytest.mark.parametrize("statement", ["CREATE TABLE report AS SELECT 1", "CREATE VIEW report AS SELECT 1"])
def test_nothing_is_made_where_there_is_no_schema(acme: Tenant, statement: str) -> None:
    with schema_context("acme_typo"), pytest.raises(DatabaseError):
        sql(statement)
    assert sql("SELECT to_regclass('pg_temp.report')") == [(None,)]


@pytest.mark.parametrize("name", ["pg_temp", "", "pg_catalog", "x" * 64])
def test_a_name_that_no_schema_of_a_tenant_can_have_raises(name: str) -> None:
    with schema_context(name), pytest.raises(ValidationError):
        sql("SELECT 1")


def test_owners_have_contexts_of_their_own_and_the_threads_client_of_a_cache() -> None:
    clients = [copy_clean_context().run(lambda: caches["shared"]) for _ in range(2)]
    assert clients[0] is clients[1]


def in_the_main_thread(pool: ThreadPoolExecutor, tenant: Tenant, deed: Deed) -> Any:
    """As a script does, which is no owner."""

    def enter() -> Any:
        with schema_context(tenant.schema_name):
            return deed()

    return Context().run(enter)


BACKSLASH = r"SELECT E'\\d+' = '\d+'"
# Each was set by the owner before, and is in force while the message is written and read that resets it.
READ_TOO_EARLY: dict[str, tuple[str, Deed]] = {
    "quotes": ("SET standard_conforming_strings = off", lambda: sql(BACKSLASH)),
    "quotes at the end": ("SET standard_conforming_strings = off", lambda: sql(r"SELECT length('C:\') = 3")),
    "an encoding": ("SET client_encoding = 'LATIN1'", lambda: sql("SELECT length(%s) = 2", "日本")),
    "an encoding of an error": ("SET client_encoding = 'SQL_ASCII'", lambda: sql("SELECT %s = 'ü'", "ü")),
    "composed": (
        "SET client_encoding = 'LATIN1'",
        lambda: sql(SQL("SELECT {} = chr(26085)").format(Literal("日"))),  # type: ignore[arg-type]  # as Django's cursors
    ),
    "many": ("SET client_encoding = 'LATIN1'", lambda: _written_by_executemany("日本")),
    "copied": ("SET client_encoding = 'LATIN1'", lambda: _written_by_copy("日本")),
    "by a named cursor": ("SET client_encoding = 'LATIN1'", lambda: _read_by_a_named_cursor("日本")),
    "in a block": ("SET standard_conforming_strings = off", transaction.atomic(lambda: sql(BACKSLASH))),
}


def _written_by_executemany(text: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO auth_group (name) VALUES (%s)", [(text,)])
    return [(Group.objects.filter(name=text).exists(),)]


def _written_by_copy(text: str) -> list[Any]:
    with connection.cursor() as cursor, cursor.copy("COPY auth_group (name) FROM STDIN") as copy:
        copy.write_row([text])
    return [(Group.objects.filter(name=text).exists(),)]


def _read_by_a_named_cursor(text: str) -> list[Any]:
    with transaction.atomic(), connection.connection.cursor("named") as cursor:
        cursor.execute("SELECT %s::text = %s::text", (text, text))
        return cursor.fetchall()


@pytest.mark.parametrize("what", READ_TOO_EARLY)
@pytest.mark.parametrize("way", [with_its_context, with_the_schema, in_the_main_thread])
def test_the_next_owners_first_statement_is_read_as_it_would_be_in_a_new_session(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor, way: Any, what: str
) -> None:
    leave, deed = READ_TOO_EARLY[what]
    connection.close()
    way(kept, acme, lambda: sql("SELECT 1"))
    way(kept, acme, lambda: sql(leave))

    assert way(kept, globex, deed) == [(True,)]


@pytest.mark.parametrize("way", [with_its_context, with_the_schema, in_the_main_thread])
def test_what_the_next_owner_begins_with_waits_for_no_safe_snapshot(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor, way: Any, elsewhere: psycopg.Connection[Any]
) -> None:
    """As a deferrable transaction does, for all that write serializably."""
    connection.close()
    for setting in ("isolation = serializable", "read_only = on", "deferrable = on"):
        way(kept, acme, partial(sql, f"SET default_transaction_{setting}"))
    with elsewhere.transaction():
        elsewhere.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        elsewhere.execute(f'SELECT count(*) FROM "{acme.schema_name}".auth_group')
        elsewhere.execute(f'INSERT INTO "{acme.schema_name}".auth_group (name) VALUES (%s)', ["elsewhere"])
        # What waits for it outlasts it, which the end of this block says then.
        elsewhere.execute("SET LOCAL idle_in_transaction_session_timeout = '3s'")
        assert way(kept, globex, lambda: sql("SELECT 1")) == [(1,)]


@pytest.mark.parametrize("way", [with_its_context, with_the_schema, in_the_main_thread])
def test_a_session_that_ended_meanwhile_is_replaced_for_the_next_owner(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor, way: Any, elsewhere: psycopg.Connection[Any]
) -> None:
    connection.close()

    def ends_soon() -> int:
        sql("SET idle_session_timeout = '1ms'")
        return int(connection.connection.info.backend_pid)

    session = way(kept, acme, ends_soon)
    wait_until(
        lambda: not elsewhere.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [session]).fetchall(),
        seconds=30,
        what="PostgreSQL has ended the session",
    )
    assert way(kept, globex, lambda: sql("SELECT current_schema()")) == [(globex.schema_name,)]


@pytest.mark.parametrize("way", [with_its_context, with_the_schema])
def test_an_execute_wrapper_and_the_log_of_queries_go_with_their_owner(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor, way: Any
) -> None:
    seen: list[str] = []

    def listen(execute: Any, statement: str, *rest: Any) -> Any:
        seen.append(statement)
        return execute(statement, *rest)

    def leave() -> None:
        connection.execute_wrappers.append(listen)
        connection.force_debug_cursor = True
        sql("SELECT 'of acme'")

    def look() -> tuple[int, list[Any]]:
        sql("SELECT 'of globex'")
        return len(connection.execute_wrappers), list(connection.queries_log)

    way(kept, acme, leave)
    assert way(kept, globex, look) == (0, [])
    assert seen == ["SELECT 'of acme'"]


def test_an_execute_wrapper_of_the_thread_itself_stays(acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor) -> None:
    seen: list[str] = []

    def listen(execute: Any, statement: str, *rest: Any) -> Any:
        seen.append(statement)
        return execute(statement, *rest)

    kept.submit(lambda: connection.execute_wrappers.append(listen)).result()
    for tenant in (acme, globex):
        with_the_schema(kept, tenant, lambda: sql("SELECT 1"))
    assert seen == ["SELECT 1"] * 2


def test_a_context_that_was_kept_ends_nothing_of_who_comes_after_it(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor
) -> None:
    contexts: list[Context] = []
    with_its_context(kept, acme, lambda: contexts.append(copy_context()))

    def write() -> None:
        with transaction.atomic():
            Group.objects.create(name="before")
            with pytest.raises(TransactionManagementError, match="one before it"):
                contexts[0].run(sql, "INSERT INTO auth_group (name) VALUES ('inner')")
            Group.objects.create(name="after")

    with_its_context(kept, globex, write)
    assert (groups(acme.schema_name), groups(globex.schema_name)) == ([], ["after", "before"])


def test_nor_of_a_transaction_that_was_begun_by_hand(acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor) -> None:
    contexts: list[Context] = []
    with_its_context(kept, acme, lambda: contexts.append(copy_context()))

    def write() -> None:
        begin()
        with pytest.raises(TransactionManagementError):
            contexts[0].run(probe.delay_on_commit, "inner")
        sql("COMMIT")

    with_its_context(kept, globex, write)
    assert groups(globex.schema_name) == ["never committed"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("how", ["with its context", "with nothing bound"])
def test_a_thread_that_kept_a_connection_cant_end_the_next_owners_transaction(
    acme: Tenant, globex: Tenant, kept: ThreadPoolExecutor, how: str, end: str
) -> None:
    sessions: list[Any] = []
    contexts: list[Context] = []
    connection.close()

    def serve(tenant: Tenant, deed: Deed) -> None:
        def own() -> None:
            start_owner()
            with schema_context(tenant.schema_name):
                deed()
            end_owner()

        Context().run(own)

    def keep() -> None:
        sql("SELECT 1")
        sessions.append(connection.connection)
        contexts.append(copy_context() if how == "with its context" else Context())

    def write() -> None:
        sql("BEGIN")
        Group.objects.create(name="first")
        with pytest.raises(TransactionManagementError, match="another request or task"):
            kept.submit(contexts[0].run, getattr(sessions[0], end)).result()
        Group.objects.create(name="second")
        sql("ROLLBACK")

    serve(acme, keep)
    serve(globex, write)
    assert groups(globex.schema_name) == []
