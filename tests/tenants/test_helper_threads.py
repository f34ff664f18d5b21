"""What outlives its owner: a thread that is kept, a block that nobody leaves, a hook that runs later."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.db.transaction import TransactionManagementError
from django_tenants.utils import schema_context

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
