"""What an owner may leave behind: in its database session, in psycopg, in Django, in Python.

Each is left by one owner, and looked for by the next one. Nobody's work fails because of one.
"""

import decimal
import uuid
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple

import psycopg
from django.utils import timezone, translation
from psycopg.adapt import Loader, PyFormat
from psycopg.pq import Format
from psycopg.rows import namedtuple_row
from psycopg.types.string import StrDumper

from tenants.connection import connection
from tenants.postgresql.cursors import Cursor, ServerCursor
from tests.jobs.durables import sql


class Leftover(NamedTuple):
    leave: Callable[[], Any]
    is_there: Callable[[], bool]


def ask(question: str) -> bool:
    [[answer]] = sql(question)
    return bool(answer)


def sees_search_path() -> bool:
    """Past all cursors, which send a path of their own; in a transaction that is the one that is seen."""
    return bool(connection.connection.pgconn.exec_(b"SHOW search_path").get_value(0, 0) == b"information_schema")


def by_sql(statement: str, question: str) -> Leftover:
    return Leftover(lambda: sql(statement), lambda: ask(question))


OF_THIS_SESSION = "SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
# The answer to each question is no, for who finds nothing.
IN_THE_SESSION = {
    "a temporary table": by_sql(
        "CREATE TEMP TABLE staging AS SELECT 1",
        f"SELECT EXISTS ({OF_THIS_SESSION} AND relname = 'staging')",
    ),
    "a temporary table that hides a real one": by_sql(
        "CREATE TEMP TABLE auth_group AS SELECT * FROM auth_group",
        f"SELECT EXISTS ({OF_THIS_SESSION} AND relname = 'auth_group')",
    ),
    "a limit": by_sql("SET statement_timeout = '1h'", "SELECT current_setting('statement_timeout') = '1h'"),
    "a time zone": by_sql("SET timezone = 'Asia/Tokyo'", "SELECT current_setting('timezone') = 'Asia/Tokyo'"),
    "commits that are not flushed": by_sql(
        "SET synchronous_commit = off", "SELECT current_setting('synchronous_commit') = 'off'"
    ),
    "row security that is off": by_sql("SET row_security = off", "SELECT current_setting('row_security') = 'off'"),
    "a search path": Leftover(lambda: sql("SET search_path = information_schema"), sees_search_path),
    "a setting of its own": by_sql(
        "SET app.secret = 'x'", "SELECT coalesce(current_setting('app.secret', true), '') <> ''"
    ),
    "an advisory lock": by_sql(
        "SELECT pg_advisory_lock_shared(42)",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND pid = pg_backend_pid())",
    ),
    "a channel": by_sql("LISTEN gossip", "SELECT EXISTS (SELECT FROM pg_listening_channels())"),
    "a prepared statement": by_sql("PREPARE kept AS SELECT 1", "SELECT EXISTS (SELECT FROM pg_prepared_statements)"),
    "a cursor": by_sql(
        "DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
        "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'kept')",
    ),
}


class Word(str):
    """What only an owner's own dumper can send."""


class OwnersCursor(Cursor):
    pass


class OwnersServerCursor(ServerCursor):
    pass


class OwnersLoader(Loader):
    def load(self, data: Any) -> str:
        return "the owner's"


noticed: list[str] = []


def hear(notice: Any) -> None:
    noticed.append(str(notice.message_primary))


def is_heard() -> bool:
    message = str(uuid.uuid4())
    sql(f"DO $$ BEGIN RAISE NOTICE '{message}'; END $$")
    return message in noticed


def is_dumped_by_the_owner() -> bool:
    return connection.connection.adapters.get_dumper(Word, PyFormat.TEXT) is OwnersDumper


class OwnersDumper(StrDumper):
    pass


CIRCLE = psycopg.adapters.types["circle"].oid


def set_on_connection(name: str, value: Any) -> Leftover:
    """The connection of the moment: the next owner may have another one."""

    def leave() -> None:
        with suppress(psycopg.ProgrammingError):  # some can't be set in a transaction
            setattr(connection.connection, name, value)

    return Leftover(leave, lambda: getattr(connection.connection, name) == value)


IN_PSYCOPG = {
    "a row factory": set_on_connection("row_factory", namedtuple_row),
    "a cursor factory": set_on_connection("cursor_factory", OwnersCursor),
    "a factory of named cursors": set_on_connection("server_cursor_factory", OwnersServerCursor),
    "an isolation level": set_on_connection("isolation_level", psycopg.IsolationLevel.REPEATABLE_READ),
    "deferrable transactions": set_on_connection("deferrable", True),
    "a threshold of preparing": set_on_connection("prepare_threshold", 3),
    "a number of prepared statements": set_on_connection("prepared_max", 7),
    "a dumper": Leftover(
        lambda: connection.connection.adapters.register_dumper(Word, OwnersDumper), is_dumped_by_the_owner
    ),
    "a loader": Leftover(
        lambda: connection.connection.adapters.register_loader("circle", OwnersLoader),
        lambda: connection.connection.adapters.get_loader(CIRCLE, Format.TEXT) is OwnersLoader,
    ),
    "a notice handler": Leftover(lambda: connection.connection.add_notice_handler(hear), is_heard),
}

secret: ContextVar[str] = ContextVar("secret", default="")


def pass_on(execute: Any, *args: Any) -> Any:
    return execute(*args)


def log_queries() -> None:
    connection.force_debug_cursor = True
    sql("SELECT 'the log'")


IN_DJANGO = {
    "a language": Leftover(lambda: translation.activate("de"), lambda: translation.get_language() == "de"),
    "a time zone of Django's": Leftover(
        lambda: timezone.activate("Asia/Tokyo"), lambda: timezone.get_current_timezone_name() == "Asia/Tokyo"
    ),
    "an execute wrapper": Leftover(
        lambda: connection.execute_wrappers.append(pass_on), lambda: pass_on in connection.execute_wrappers
    ),
    "a log of queries": Leftover(
        log_queries,
        lambda: connection.force_debug_cursor or "the log" in str(connection.queries_log),
    ),
}
IN_PYTHON = {
    "a context variable": Leftover(lambda: secret.set("x"), lambda: secret.get() != ""),
    "a precision": Leftover(lambda: setattr(decimal.getcontext(), "prec", 3), lambda: decimal.getcontext().prec == 3),
}
LEFTOVERS = {**IN_THE_SESSION, **IN_PSYCOPG, **IN_DJANGO, **IN_PYTHON}
# What can't be set, or can't be seen, where a transaction is open
NOT_IN_A_TRANSACTION = {"a search path", "a channel", "an isolation level", "deferrable transactions"}
# Nobody could leave these and go on.
TRANSACTIONS: dict[str, Callable[[], Any]] = {
    "an open transaction": lambda: sql("BEGIN"),
    "no autocommit": lambda: connection.set_autocommit(False),
    "no autocommit of psycopg's": lambda: setattr(connection.connection, "autocommit", False),
}


def leave_everything() -> list[str]:
    """What is there then."""
    for leftover in LEFTOVERS.values():
        leftover.leave()
    return what_is_found()


def what_is_found() -> list[str]:
    sql("SELECT 1")
    return [name for name, leftover in LEFTOVERS.items() if leftover.is_there()]
