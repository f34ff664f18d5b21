"""What needs a session of its own raises behind a pooler in transaction mode, and works past it."""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connections, transaction
from django_tenants.utils import schema_context

from tenants.connection import connection
from tenants.models import Tenant
from tenants.wsgi import OwnContext
from tests.jobs.durables import sql
from tests.poolers.pgbouncer import pgbouncer

pytestmark = [pytest.mark.needs("pgbouncer"), pytest.mark.usefixtures("committed_db")]

ALONE = {
    "VACUUM": "VACUUM auth_group",
    "an index": "CREATE INDEX CONCURRENTLY added ON auth_group (name)",
    "a block that commits": "DO $$ BEGIN CREATE TABLE made (); COMMIT; END $$",
}


@pytest.fixture
def pooled(committed_db: None) -> Iterator[None]:
    """This process reaches its database through a pooler in transaction mode, and knows the way past it."""
    direct = urlsplit(os.environ["DATABASE_URL"])
    configured = connections["default"].settings_dict
    before = {**configured}
    with pgbouncer("transaction", default_pool_size="2") as pooler:
        connection.close()
        way = {"HOST": direct.hostname, "PORT": direct.port or ""}
        configured.update(HOST="127.0.0.1", PORT=pooler.port, DIRECT=way, DISABLE_SERVER_SIDE_CURSORS=True)
        yield
        connection.close()
        configured.clear()
        configured.update(before)


@pytest.fixture
def remains(acme: Tenant, globex: Tenant) -> Iterator[None]:
    yield
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            sql("DROP INDEX IF EXISTS added; DROP TABLE IF EXISTS made")


def added() -> list[Any]:
    """Where it was made."""
    return sql("SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname IN ('added', 'made')")


@pytest.mark.usefixtures("pooled", "remains")
@pytest.mark.parametrize("what", ALONE)
def test_it_raises_and_names_the_remedy(acme: Tenant, what: str) -> None:
    with schema_context(acme.schema_name):
        with pytest.raises(DatabaseError, match=r"with connection\.direct\(\)"):
            sql(ALONE[what])
        assert added() == []
        assert sql("SELECT current_schema()") == [(acme.schema_name,)]


@pytest.mark.usefixtures("pooled", "remains")
@pytest.mark.parametrize("what", ALONE)
def test_it_works_past_the_pooler_at_home(acme: Tenant, what: str) -> None:
    with schema_context(acme.schema_name), connection.direct():
        sql(ALONE[what])
        assert added() == ([] if what == "VACUUM" else [(acme.schema_name,)])


@pytest.mark.usefixtures("pooled")
def test_another_error_is_as_it_was(acme: Tenant) -> None:
    with schema_context(acme.schema_name), pytest.raises(DatabaseError) as error:
        sql("SELECT 1 / 0")
    assert "direct" not in str(error.value)


@pytest.mark.usefixtures("pooled", "remains")
@pytest.mark.parametrize("what", [*ALONE.values(), "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"])
def test_what_a_transaction_of_its_own_is_in_the_way_of_is_not_the_poolers_fault(acme: Tenant, what: str) -> None:
    """`direct()` would raise there, too."""
    with schema_context(acme.schema_name), transaction.atomic():
        sql("SELECT 1")
        with pytest.raises(DatabaseError) as error:
            sql(what)
        transaction.set_rollback(True)
    assert "direct" not in str(error.value)


@pytest.mark.usefixtures("pooled")
def test_rows_can_be_iterated(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            Group.objects.bulk_create(Group(name=f"{tenant.slug} {number}") for number in range(50))
    with schema_context(acme.schema_name):
        rows = Group.objects.order_by("id").iterator(chunk_size=10)
        first = next(rows)
        with schema_context(globex.schema_name):
            assert Group.objects.count() == 50
        names = [first.name, *(group.name for group in rows)]
        assert names == [f"acme {number}" for number in range(50)]
        with transaction.atomic():
            assert len(list(Group.objects.iterator(chunk_size=10))) == 50


@pytest.mark.usefixtures("pooled")
def test_a_cursor_that_outlives_its_transaction_raises(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        cursor = connection.cursor().connection.cursor("kept", withhold=True)
        cursor.execute("SELECT generate_series(1, 10)")
        with pytest.raises(psycopg.errors.InvalidCursorName):
            cursor.fetchall()
    connection.close()
    cursor.close()


@pytest.mark.usefixtures("pooled")
def test_a_requests_time_outs_hold_in_each_of_its_transactions_and_no_job_has_them() -> None:
    look = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    seen: list[Any] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        with schema_context("public"):
            for _ in range(20):
                with transaction.atomic():
                    seen.extend(sql(look))
        return [b""]

    OwnContext(application)({}, lambda *_: None).close()

    assert seen == 20 * [("15s", "5s")]
    assert [sql(look) for _ in range(20)] == 20 * [[("0", "0")]]


@pytest.mark.usefixtures("pooled")
def test_how_a_statement_is_read_ends_with_its_transaction(acme: Tenant) -> None:
    """As each setting does. A pooler hands these on to the next session."""
    with schema_context(acme.schema_name):
        sql("SET standard_conforming_strings = off")
        assert sql(r"SELECT '\d+'") == [(r"\d+",)]
        sql("SET client_encoding = 'LATIN1'")
        assert sql("SELECT %s", "日本") == [("日本",)]
        with transaction.atomic():
            sql("SET client_encoding = 'LATIN1'")
        with transaction.atomic():
            assert sql("SELECT %s", "日本") == [("日本",)]
