"""Every kind of cursor: how a name is written to auth_group, and how the names there are read."""

from collections.abc import Callable
from typing import Any

import django.db
import psycopg
from django.contrib.auth.models import Group
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier, Literal

from tenants.connection import connection
from tests.jobs.durables import sql

ERRORS = (django.db.Error, psycopg.Error)
INSERT = "INSERT INTO auth_group (name) VALUES (%s)"
RETURNING = f"{INSERT} RETURNING name"
SELECT = "SELECT name FROM auth_group"

Write = Callable[[str], Any]
Read = Callable[[], list[str]]


def literal(name: str) -> str:
    return INSERT.replace("%s", f"'{name}'")


# How a name is written to auth_group, whose schema nobody names


def by_orm(name: str) -> None:
    Group.objects.create(name=name)


def by_django(query: Any, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters or None)


def many_by_django(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(INSERT, [(name,)])


def many_returning(cursor: Any, name: str) -> None:
    cursor.executemany(RETURNING, [(name,)], returning=True)
    assert cursor.fetchall() == [(name,)]


def copy_in(cursor: Any, name: str) -> None:
    with cursor.copy("COPY auth_group (name) FROM STDIN") as copy:
        copy.write_row((name,))


def copy_in_by_django(name: str) -> None:
    with connection.cursor() as cursor:
        copy_in(cursor, name)


def stream_in(cursor: Any, name: str) -> None:
    assert list(cursor.stream(RETURNING, [name])) == [(name,)]


def stream_in_by_django(name: str) -> None:
    with connection.cursor() as cursor:
        stream_in(cursor, name)


def with_dictionaries(name: str) -> None:
    cursor = psycopg_cursor(row_factory=dict_row)
    assert cursor.execute(RETURNING, [name]).fetchone() == {"name": name}


def twice_by_one_cursor(name: str) -> None:
    """The second statement may find what the first one has prepared, or has set."""
    cursor = psycopg_cursor()
    cursor.execute("SELECT 1")
    cursor.execute(INSERT, [name])


def psycopg_cursor(*args: Any, **options: Any) -> Any:
    return connection.connection.cursor(*args, **options)


def by_hand(cursor_type: Any) -> Any:
    return cursor_type(connection.connection)


def composed(name: str) -> Any:
    return SQL("INSERT INTO {} (name) VALUES ({})").format(Identifier("auth_group"), Literal(name))


def in_two_statements(name: str) -> None:
    by_django(f"SELECT 1; {literal(name)}")


WRITES: dict[str, Write] = {
    "the ORM": by_orm,
    "Django's cursor": lambda name: by_django(INSERT, name),
    "Django's cursor without parameters": lambda name: by_django(literal(name)),
    "Django's cursor with bytes": lambda name: by_django(literal(name).encode()),
    "Django's cursor with composed SQL": lambda name: by_django(composed(name)),
    "Django's cursor with SQL and parameters": lambda name: by_django(SQL(INSERT), name),
    "Django's cursor with two statements": in_two_statements,
    "Django's executemany": many_by_django,
    "Django's copy": copy_in_by_django,
    "Django's stream": stream_in_by_django,
    "the connection's execute": lambda name: connection.connection.execute(INSERT, [name]),
    "the connection's execute with bytes": lambda name: connection.connection.execute(literal(name).encode()),
    "the connection's execute, prepared": lambda name: connection.connection.execute(INSERT, [name], prepare=True),
    "the connection's execute in binary": lambda name: connection.connection.execute(INSERT, [name], binary=True),
    "psycopg's cursor": lambda name: psycopg_cursor().execute(INSERT, [name]),
    "psycopg's cursor with a row factory": with_dictionaries,
    "psycopg's cursor, used twice": twice_by_one_cursor,
    "psycopg's cursor with composed SQL": lambda name: psycopg_cursor().execute(composed(name)),
    "psycopg's executemany": lambda name: psycopg_cursor().executemany(INSERT, [(name,)]),
    "psycopg's executemany that returns": lambda name: many_returning(psycopg_cursor(), name),
    "psycopg's copy": lambda name: copy_in(psycopg_cursor(), name),
    "psycopg's stream": lambda name: stream_in(psycopg_cursor(), name),
}
WRITES_BY_HAND: dict[str, Write] = {
    "a Cursor": lambda name: by_hand(psycopg.Cursor).execute(INSERT, [name]),
    "a Cursor without parameters": lambda name: by_hand(psycopg.Cursor).execute(literal(name)),
    "a Cursor, prepared": lambda name: by_hand(psycopg.Cursor).execute(INSERT, [name], prepare=True),
    "a Cursor with composed SQL": lambda name: by_hand(psycopg.Cursor).execute(composed(name)),
    "a ClientCursor": lambda name: by_hand(psycopg.ClientCursor).execute(INSERT, [name]),
    "a ClientCursor without parameters": lambda name: by_hand(psycopg.ClientCursor).execute(literal(name)),
    "a RawCursor": lambda name: by_hand(psycopg.RawCursor).execute(INSERT.replace("%s", "$1"), [name]),
    "a RawCursor without parameters": lambda name: by_hand(psycopg.RawCursor).execute(literal(name)),
    "a Cursor's executemany": lambda name: by_hand(psycopg.Cursor).executemany(INSERT, [(name,)]),
    "a Cursor's executemany that returns": lambda name: many_returning(by_hand(psycopg.Cursor), name),
    "a Cursor's copy": lambda name: copy_in(by_hand(psycopg.Cursor), name),
    "a Cursor's stream": lambda name: stream_in(by_hand(psycopg.Cursor), name),
}
ALL_WRITES = WRITES | WRITES_BY_HAND


# How the names of auth_group are read


def rows(cursor: Any, query: Any = SELECT) -> list[str]:
    with cursor:
        return [name for (name,) in cursor.execute(query).fetchall()]


def streamed(cursor: Any) -> list[str]:
    return [name for (name,) in cursor.stream(SELECT)]


def copied(cursor: Any) -> list[str]:
    with cursor.copy("COPY (SELECT name FROM auth_group) TO STDOUT") as copy:
        return [name for (name,) in copy.rows()]


def copied_table(cursor: Any) -> list[str]:
    with cursor.copy("COPY auth_group (name) TO STDOUT") as copy:
        return [name for (name,) in copy.rows()]


def by_djangos_cursor() -> list[str]:
    return [name for (name,) in sql(SELECT)]


def by_djangos_iterator() -> list[str]:
    return [group.name for group in Group.objects.iterator(chunk_size=1)]


def by_djangos_chunked_cursor() -> list[str]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(SELECT)
        return [name for (name,) in cursor.fetchall()]


READS: dict[str, Read] = {
    "Django's cursor": by_djangos_cursor,
    "Django's iterator": by_djangos_iterator,
    "Django's chunked cursor": by_djangos_chunked_cursor,
    "psycopg's cursor": lambda: rows(psycopg_cursor()),
    "psycopg's stream": lambda: streamed(psycopg_cursor()),
    "psycopg's copy": lambda: copied(psycopg_cursor()),
    "psycopg's copy of a table": lambda: copied_table(psycopg_cursor()),
    "a named cursor WITH HOLD": lambda: rows(psycopg_cursor("named", withhold=True)),
}
READS_IN_A_TRANSACTION: dict[str, Read] = {
    "a named cursor": lambda: rows(psycopg_cursor("named")),
    "a ServerCursor by hand": lambda: rows(psycopg.ServerCursor(connection.connection, "named")),
    "a Cursor by hand": lambda: rows(by_hand(psycopg.Cursor)),
    "a ClientCursor by hand": lambda: rows(by_hand(psycopg.ClientCursor), SELECT.encode()),
    "a Cursor's stream": lambda: streamed(by_hand(psycopg.Cursor)),
    "a Cursor's copy": lambda: copied(by_hand(psycopg.Cursor)),
}
ALL_READS = READS | READS_IN_A_TRANSACTION
