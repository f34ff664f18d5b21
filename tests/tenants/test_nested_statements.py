"""Statements that are sent while the parameters of another one are made ready, or past its text, are each at home."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import JSONField, Value
from django.db.utils import Error
from django_tenants.utils import schema_context
from psycopg.types.json import Jsonb

from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.durables import groups, sql

pytestmark = pytest.mark.usefixtures("committed_db")

LOOK = "SELECT name FROM auth_group WHERE %s::jsonb IS NOT NULL"
WRITE = "INSERT INTO auth_group (name) SELECT 'written' WHERE %s::jsonb IS NOT NULL"
CURSORS: dict[str, Callable[[], Any]] = {
    "Django's": lambda: connection.cursor(),
    "psycopg's": lambda: connection.connection.cursor(),
    "Cursor": lambda: psycopg.Cursor(connection.connection),
    "ClientCursor": lambda: psycopg.ClientCursor(connection.connection),
    "RawCursor": lambda: psycopg.RawCursor(connection.connection),
}


@pytest.fixture
def rows(committed_db: None, acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            Group.objects.create(name=tenant.slug)


class Odd:
    """What the encoder asks the other tenant about."""


def asking(tenant: Tenant, ask: Callable[[], Any]) -> Callable[[Any], str]:
    """Encodes by a query in another tenant's schema."""

    def dumps(value: Any) -> str:
        with schema_context(tenant.schema_name):
            ask()
        return json.dumps(str(value))

    return dumps


def count() -> int:
    return Group.objects.count()


def in_a_block() -> None:
    with transaction.atomic():
        Group.objects.count()


ASKS = pytest.mark.parametrize("ask", [count, in_a_block, lambda: sql("SELECT 1")], ids=["orm", "block", "sql"])


@pytest.mark.usefixtures("rows")
@ASKS
@pytest.mark.parametrize("cursor", CURSORS)
def test_a_query_that_asks_for_its_parameters_is_at_home(
    acme: Tenant, globex: Tenant, cursor: str, ask: Callable[[], Any]
) -> None:
    statement = LOOK.replace("%s", "$1") if cursor == "RawCursor" else LOOK
    write = WRITE.replace("%s", "$1") if cursor == "RawCursor" else WRITE
    with schema_context(acme.schema_name), transaction.atomic():
        sql("SELECT 1")
        with CURSORS[cursor]() as own:
            own.execute(statement, [Jsonb("x", dumps=asking(globex, ask))])
            assert own.fetchall() == [("acme",)]
            own.execute(write, [Jsonb("x", dumps=asking(globex, ask))])
    assert (groups(acme.schema_name), groups(globex.schema_name)) == (["acme", "written"], ["globex"])


def by_stream(parameter: Any) -> list[Any]:
    with connection.cursor() as cursor:
        return list(cursor.stream(LOOK, [parameter]))


def by_copy(parameter: Any) -> list[Any]:
    with connection.cursor() as cursor, cursor.copy(f"COPY ({LOOK}) TO STDOUT", [parameter]) as copy:
        return list(copy.rows())


def by_named_cursor(parameter: Any) -> list[Any]:
    with transaction.atomic(), connection.cursor(), connection.connection.cursor("named") as cursor:
        cursor.execute(LOOK, [parameter])
        return list(cursor)


@pytest.mark.usefixtures("rows")
@ASKS
@pytest.mark.parametrize("by", [by_stream, by_copy, by_named_cursor])
def test_what_is_sent_after_its_path_is_at_home(
    acme: Tenant, globex: Tenant, by: Callable[[Any], list[Any]], ask: Callable[[], Any]
) -> None:
    with schema_context(acme.schema_name):
        connection.ensure_connection()
        with (
            # As in psycopg's own transaction(), which these have around them
            pytest.raises(Error, match="can't change 'autocommit' now")
            if ask is in_a_block and by is not by_named_cursor
            else nullcontext()
        ):
            assert by(Jsonb("x", dumps=asking(globex, ask))) == [("acme",)]
        with transaction.atomic():
            assert by(Jsonb("x", dumps=asking(globex, ask))) == [("acme",)]


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("in_block", [False, True])
def test_an_iterator_whose_encoder_asks_is_at_home(acme: Tenant, globex: Tenant, in_block: bool) -> None:
    class Asking(json.JSONEncoder):
        def default(self, o: Any) -> Any:
            with schema_context(globex.schema_name):
                return Group.objects.count()

    def names() -> Iterator[str]:
        asked = Value({"a": Odd()}, output_field=JSONField(encoder=Asking))
        return (group.name for group in Group.objects.annotate(asked=asked).iterator())

    with schema_context(acme.schema_name):
        if in_block:
            with transaction.atomic():
                assert list(names()) == ["acme"]
        else:
            assert list(names()) == ["acme"]


def test_a_statement_inside_of_a_call_is_at_home(acme: Tenant, globex: Tenant) -> None:
    def write() -> None:
        Group.objects.create(name="asked")

    with schema_context(acme.schema_name):
        sql("CREATE PROCEDURE note(what jsonb) LANGUAGE sql AS $$ INSERT INTO auth_group (name) VALUES ('called') $$")
        try:
            sql("CALL note(%s)", Jsonb(1, dumps=asking(globex, write)))
        finally:
            sql("DROP PROCEDURE note")
    assert (groups(acme.schema_name), groups(globex.schema_name)) == (["called"], ["asked"])


ENDS = ["ROLLBACK AND CHAIN", "ABORT AND CHAIN", "COMMIT AND CHAIN", "ROLLBACK; BEGIN", "COMMIT"]


@pytest.mark.parametrize("before", ["SELECT 1; ", "SELECT ';'; ", "/* ; */ SELECT 1 ; -- ;\n"])
@pytest.mark.parametrize("end", ENDS)
def test_an_end_behind_another_statement_raises(acme: Tenant, end: str, before: str) -> None:
    def write() -> None:
        with transaction.atomic():
            Group.objects.create(name="before")
            sql(before + end)
            Group.objects.create(name="after")

    with schema_context(acme.schema_name), pytest.raises(Error, match="would end the transaction"):
        write()
    assert groups(acme.schema_name) == []


@pytest.mark.parametrize("end", ["ROLLBACK AND CHAIN", "COMMIT AND CHAIN", "ROLLBACK; BEGIN"])
def test_one_that_the_text_hides_is_noticed(acme: Tenant, end: str) -> None:
    """The library that takes strings apart takes a backslash for more than a character."""

    def write() -> None:
        with transaction.atomic():
            sql("SELECT 1")
            Group.objects.create(name="before")
            psycopg.ClientCursor(connection.connection).execute("SELECT 1")
            sql("SELECT 'a\\'; " + end)
            Group.objects.create(name="after")

    with schema_context(acme.schema_name), pytest.raises((Error, transaction.TransactionManagementError)):
        write()
    assert "after" not in groups(acme.schema_name)


def test_what_follows_a_hidden_way_back_is_not_committed(acme: Tenant, globex: Tenant) -> None:
    def write() -> None:
        with transaction.atomic():
            sql("SAVEPOINT s")
            with schema_context(globex.schema_name):
                sql("SELECT 'a\\'; ROLLBACK TO s; INSERT INTO auth_group (name) VALUES ('meant for globex')")

    with schema_context(acme.schema_name), pytest.raises((Error, transaction.TransactionManagementError)):
        write()
    assert (groups(acme.schema_name), groups(globex.schema_name)) == ([], [])


def test_a_banner_of_comments_is_read_at_once(acme: Tenant) -> None:
    """With twice the time for each comment more, this would take for ever."""
    banner = "/* a banner */ " * 200
    with schema_context(acme.schema_name):
        for statement in ("SELECT 1", "SELECT 1; SELECT 1", "VALUES (1)"):
            assert sql(banner + statement) == [(1,)]
        with transaction.atomic():
            assert sql(banner + "SELECT 1") == [(1,)]
            with pytest.raises(Error, match="would end the transaction"):
                sql(banner + "ROLLBACK")


def test_psycopgs_autocommit_cant_be_turned_on_in_a_block(acme: Tenant) -> None:
    def turn_on() -> None:
        connection.connection.autocommit = True

    def set_on() -> None:
        connection.connection.set_autocommit(True)

    for act in (turn_on, set_on):
        with schema_context(acme.schema_name), transaction.atomic():
            with pytest.raises(psycopg.ProgrammingError, match="would end the transaction"):
                act()
            Group.objects.create(name="undone")
            transaction.set_rollback(True)
    assert groups(acme.schema_name) == []


@pytest.mark.usefixtures("rows")
def test_rows_that_are_copied_while_their_encoder_asks_raise_or_are_at_home(acme: Tenant, globex: Tenant) -> None:
    def copy() -> None:
        with connection.cursor() as cursor, cursor.copy("COPY auth_group (name) FROM STDIN") as copied:
            copied.write_row([Jsonb("x", dumps=asking(globex, count))])

    with schema_context(acme.schema_name), pytest.raises(Error, match="unfinished"):
        copy()
    assert (groups(acme.schema_name), groups(globex.schema_name)) == (["acme"], ["globex"])


@pytest.mark.usefixtures("rows")
def test_an_encoder_that_asks_twice_and_nests_is_at_home(acme: Tenant, globex: Tenant) -> None:
    def nest() -> None:
        with schema_context(acme.schema_name):
            assert by_named_cursor(Jsonb("y", dumps=asking(globex, count))) == [("acme",)]
        assert by_named_cursor(Jsonb("z")) == [("globex",)]

    with schema_context(acme.schema_name), transaction.atomic():
        assert by_named_cursor(Jsonb("x", dumps=asking(globex, nest))) == [("acme",)]
        assert by_stream(Jsonb("x", dumps=asking(globex, nest))) == [("acme",)]
