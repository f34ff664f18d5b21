"""Cursors whose statements are at home, by messages that carry the search path or come after it.

This leans on parts of psycopg that are not documented. tests/tenants/test_private_api.py fails when one goes away.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import psycopg
from django.db.backends.postgresql.base import CursorMixin
from psycopg import ClientCursor
from psycopg.client_cursor import ClientCursorMixin
from psycopg.pq import ExecStatus

from tenants.postgresql.messages import Connection, TransactionOfOne
from tenants.postgresql.statements import (
    DIRECT_HINT,
    LINE,
    NEEDS_SESSION,
    RUNS_ALONE,
    refuse_statements_without_path,
)

# In the names of functions; those of locks that go with their transaction have `advisory_xact_lock`.
SESSION_LOCK = b"advisory_lock"


class Cursor(CursorMixin, ClientCursor[Any]):
    """A cursor whose messages carry what has to come before the statement, which none of its results shows."""

    _conn: Connection

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: False for statements that name the schema of every table
        self.needs_path = True
        #: What the next message begins with
        self.prelude: list[bytes] = []
        self._leading = 0

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """As psycopg's."""
        connection = self._conn
        connection.make_readable()
        may_be_alone = connection.autocommit and connection.is_idle() and not connection.shares_sessions
        text = _text(query, connection) if may_be_alone or self.needs_path else b""
        if self.needs_path and connection.runs_alone is not self:
            # Before the parameters are in it, in which clients may say anything
            refuse_statements_without_path(text, connection.refuse_end)
        if may_be_alone and RUNS_ALONE.match(text):
            with connection.alone(self):
                return super().execute(query, params, **options)
        return super().execute(query, params, **options)

    def executemany(self, query: Any, *args: Any, **options: Any) -> None:
        """As psycopg's, in one transaction."""
        self._conn.refuse_end(_text(query, self._conn))
        with TransactionOfOne(self._conn):
            super().executemany(query, *args, **options)

    @contextmanager
    def copy(self, *args: Any, **options: Any) -> Iterator[Any]:
        """As psycopg's, in one transaction."""
        with TransactionOfOne(self._conn), super().copy(*args, **options) as copy:
            yield copy

    def stream(self, *args: Any, **options: Any) -> Iterator[Any]:
        """As psycopg's, in one transaction."""
        with TransactionOfOne(self._conn):
            yield from super().stream(*args, **options)

    def _execute_gen(self, *args: Any, **options: Any) -> Generator[Any, Any, None]:
        connection = self._conn
        # While the parameters of one statement are made ready, another may be sent.
        outer = connection.carrier
        try:
            connection.carrier = self
            yield from super()._execute_gen(*args, **options)
        finally:
            connection.carrier = outer
            self.prelude = []
            connection.note_transaction()

    def _execute_send(self, query: Any, **options: Any) -> None:
        self._leading = len(self.prelude)
        self._conn.may_hold_locks |= SESSION_LOCK in query.query.lower()
        if self._conn.carrier is self:
            self._conn.refuse_end(query.query)
        if self.prelude:
            self._query = query
            self._pgconn.send_query(b"; ".join(self.prelude) + b";\n" + query.query)
        else:
            super()._execute_send(query, **options)

    def _raise_for_result(self, result: Any) -> NoReturn:
        try:
            super()._raise_for_result(result)
        except psycopg.Error as error:
            if self._leading:
                # PostgreSQL counted the line before the statement, too.
                error.args = (LINE.sub(lambda line: f"LINE {int(line[1]) - 1}:", str(error)),)
            # In a transaction of the caller's it is that which is in the way, and not the pooler.
            if self._conn.shares_sessions and isinstance(error, NEEDS_SESSION) and self._conn.is_idle():
                error.args = (f"{error}\n{DIRECT_HINT}",)
            raise

    def _set_results(self, results: list[Any]) -> None:
        if self._leading:
            self._conn.note_cleaned()
            results = results[self._leading :]
            if not results:  # PostgreSQL says nothing to a comment that others precede
                results = [self._pgconn.make_empty_result(ExecStatus.EMPTY_QUERY)]
            self._leading = 0
        super()._set_results(results)
        self._conn.note_results(results)
        if self._conn.carrier is self and self._query is not None:
            self._conn.check_commit(self._query.query, results[0])


def _text(query: Any, connection: Connection) -> bytes:
    if isinstance(query, str):
        return query.encode(errors="replace")
    return query if isinstance(query, bytes) else bytes(query.as_bytes(connection))


class ServerCursor(CursorMixin, ClientCursorMixin[Any, Any], psycopg.ServerCursor[Any]):
    """A cursor that stays on the server."""

    _conn: Connection
    _opened_in: tuple[Any, Any] = (None, None)

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        """As psycopg's. Outside of a transaction its rows can be fetched if it was made `withhold`."""
        self._conn.may_hold_locks |= SESSION_LOCK in _text(query, self._conn).lower()
        with TransactionOfOne(self._conn):
            executed = super().execute(query, *args, **options)
            self._opened_in = self._conn.place_of_cursors(withhold=self._withhold)
            return executed

    def _close_gen(self) -> Generator[Any, Any, None]:
        # psycopg asks the server for one that was never opened. One that is collected late went with its transaction or
        # its owner, and CLOSE would be an error in the transaction of somebody else.
        if self._described and self._opened_in == self._conn.place_of_cursors(withhold=self._withhold):
            yield from super()._close_gen()
