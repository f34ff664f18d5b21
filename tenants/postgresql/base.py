"""The database backend: django-tenants', with a search path of the tenant's schema alone, and fewer round trips."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.utils import debug_transaction
from django_tenants.postgresql_backend.base import DatabaseWrapper as TenantDatabaseWrapper
from django_tenants.utils import quote_schema_name
from psycopg import ClientCursor, Connection, Error
from psycopg.errors import InFailedSqlTransaction
from psycopg.pq import TransactionStatus

# A statement that commits, whatever comments precede it.
COMMIT = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:COMMIT|END)\b", re.IGNORECASE | re.DOTALL)
# What an owner may have left in a session, in a transaction of its own: a ROLLBACK of the next owner must not undo it.
CLEANING = (
    "BEGIN",
    "RESET SESSION AUTHORIZATION",
    "RESET ROLE",
    "RESET ALL",
    "CLOSE ALL",
    "UNLISTEN *",
    "DEALLOCATE ALL",
    "SELECT pg_advisory_unlock_all()",
    "DISCARD SEQUENCES",
    "DISCARD TEMP",
    "COMMIT",
)
# Statements in one message, each of which PostgreSQL parses before it runs the first
MOST_UNSENT = 100


class Cursor(base.CursorMixin, ClientCursor[Any]):
    """A cursor that sends what has to come before a statement in one message with it: a transaction's BEGIN, the search
    path, and what was to be sent with the next statement.
    """

    #: False for statements that name the schema of every table: they need no search path.
    needs_path = True

    def __init__(self, *args: Any, wrapper: "DatabaseWrapper", **options: Any) -> None:
        super().__init__(*args, **options)
        self._wrapper = wrapper

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """As psycopg's, with what has to come before the statement."""
        # Outside of a transaction, some statements can't share a message with others. Ours can.
        if not isinstance(query, str) or (self._wrapper.autocommit and self.needs_path):
            self.prepare()
        prelude = self._prelude()
        if prelude:
            # Put together with its parameters here: psycopg would keep in mind how to parse each message.
            statement = query if params is None else self.mogrify(query, params)
            super().execute("; ".join([*prelude, statement]), **options)
            self._prepared()
            for _ in prelude:
                self.nextset()
        else:
            super().execute(query, params, **options)
        self._check_commit(query)
        return self

    def executemany(self, *args: Any, **options: Any) -> None:
        """As psycopg's; what has to come before it is sent by itself."""
        self.prepare()
        super().executemany(*args, **options)

    def copy(self, *args: Any, **options: Any) -> Any:
        """As psycopg's; what has to come before it is sent by itself."""
        self.prepare()
        return super().copy(*args, **options)

    def stream(self, *args: Any, **options: Any) -> Any:
        """As psycopg's; what has to come before it is sent by itself."""
        self.prepare()
        return super().stream(*args, **options)

    def prepare(self) -> None:
        """Send by itself what has to come before the next statement."""
        if prelude := self._prelude():
            super().execute("; ".join(prelude))
            self._prepared()

    def _check_commit(self, query: Any) -> None:
        """Raise if the query was a COMMIT that PostgreSQL turned into a ROLLBACK. It does that without an error."""
        if self.statusmessage != "ROLLBACK":
            return
        self._wrapper.search_path_set_schemas = None  # it was rolled back, too
        text = query if isinstance(query, str) else self.mogrify(query)
        if COMMIT.match(text):
            raise InFailedSqlTransaction(
                "Nothing was committed: a statement of the transaction had failed, so PostgreSQL answered COMMIT with "
                "ROLLBACK. Let the error leave atomic(), or run what may fail in an atomic() block of its own."
            )

    def _prelude(self) -> list[str]:
        wrapper, status = self._wrapper, self.connection.info.transaction_status
        if status is TransactionStatus.INERROR:
            # PostgreSQL takes a ROLLBACK alone, and turns a COMMIT into one, silently. What goes first makes it fail.
            return [*wrapper.unsent]
        prelude: list[str] = []
        if wrapper.must_clean and status is TransactionStatus.IDLE:
            prelude += CLEANING
            wrapper.search_path_set_schemas = None
        begins = status is TransactionStatus.IDLE and not wrapper.autocommit
        if begins:
            prelude.append("BEGIN")
        # Each transaction sets its own path: a body that rolls back by itself takes the path with it.
        if self.needs_path and (begins or wrapper.search_path_set_schemas is None):
            prelude.append(f"SET search_path = {quote_schema_name(wrapper.schema_name)}")
        return prelude + wrapper.unsent

    def _prepared(self) -> None:
        self._wrapper.must_clean = False
        self._wrapper.unsent.clear()
        if self.needs_path:
            self._wrapper.bound()


class DatabaseWrapper(TenantDatabaseWrapper):
    """django-tenants' backend, without its ways of falling through to another schema, and with fewer round trips.

    Its search path is the tenant's schema alone: `SET search_path TO gone, public` is no error in PostgreSQL, and a
    table that exists in both schemas would answer from `public`. What a tenant needs of `public` is named with its
    schema. A search path that can't be set is an error, where django-tenants goes on with the one from before.
    """

    schema_name: str
    #: django-tenants' note of which path the session has; None: unknown
    search_path_set_schemas: list[str] | None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Statements that go with the transaction's next one
        self.unsent: list[str] = []
        #: Whether the next message begins with CLEANING
        self.must_clean = False

    def bound(self) -> None:
        """Note that the session's search path is that of `schema_name`."""
        self.search_path_set_schemas = [self.schema_name]

    def shared_cursor(self) -> Any:
        """A cursor for statements that name the schema of every table: it leaves the search path as it is."""
        cursor = self.cursor()
        cursor.cursor.needs_path = False
        return cursor

    def send_with_next(self, statement: str, parameters: Any) -> None:
        """Send a statement in one message with the transaction's next one, or with its COMMIT. It names the schema of
        every table; nobody sees its result.

        What it raises on the server, the next one raises; a COMMIT then fails, and nothing is committed. It is sent at
        once in a nested block and outside of transactions. In a block that Django will roll back, this raises.
        """
        if self.in_atomic_block and not self.savepoint_ids and not self.needs_rollback:
            with self.wrap_database_errors:
                cursor = self.connection.cursor()
                self.unsent.append(cursor.mogrify(statement, parameters))
                if len(self.unsent) == MOST_UNSENT:
                    cursor.prepare()
        else:
            with self.shared_cursor() as cursor:
                cursor.execute(statement, parameters)

    def _commit(self) -> None:
        if self.unsent:
            with self.shared_cursor() as cursor:
                cursor.execute("COMMIT")
        elif self.connection.info.transaction_status is not TransactionStatus.IDLE:
            with debug_transaction(self, "COMMIT"), self.wrap_database_errors:
                cursor = self.connection.cursor()
                cursor.needs_path = False
                cursor.execute("COMMIT")

    def _rollback(self) -> None:
        self.unsent.clear()
        super()._rollback()

    def _savepoint_rollback(self, sid: str) -> None:
        # They came after the savepoint, which took along what was unsent before.
        self.unsent.clear()
        super()._savepoint_rollback(sid)

    def get_new_connection(self, conn_params: Any) -> Any:
        """A connection whose cursors are ours."""
        self.unsent.clear()
        self.must_clean = False
        connection = super().get_new_connection(conn_params)
        connection.cursor_factory = partial(Cursor, wrapper=self)
        connection.transaction = self._psycopg_transaction
        return connection

    @contextmanager
    def _psycopg_transaction(self, *args: Any, **options: Any) -> Iterator[Any]:
        # Its savepoint must not take along what was called before it.
        self.connection.cursor().prepare()
        with Connection.transaction(self.connection, *args, **options) as transaction:
            yield transaction

    def start_clean(self) -> bool:
        """Let the next message clean the session, which has a new owner. False, and nothing, inside an atomic block."""
        if self.in_atomic_block:
            return False
        if self.connection is None:
            return True
        if self.autocommit and self.connection.info.transaction_status is TransactionStatus.IDLE:
            self.must_clean = True
        else:
            self.close()
        return True

    def in_transaction(self) -> bool:
        """Whether a transaction is open that a body, or its caller, began. That around a Django TestCase is not one."""
        if self.connection is None:
            return False
        if self.in_atomic_block:
            return not self.atomic_blocks[-1]._from_testcase
        # By psycopg's word too: Django does not know of a BEGIN that a body executed.
        status = self.connection.info.transaction_status
        return not self.get_autocommit() or status is not TransactionStatus.IDLE

    def abandon_transaction(self) -> None:
        """Close the connection in the midst of a transaction, whose atomic blocks nobody will leave any more."""
        # close() alone would wait for them with a dead connection.
        self.in_atomic_block = self.closed_in_transaction = False
        self.close()

    def is_usable(self) -> bool:
        """As Django's, but without what is unsent: an error of that would look like a lost connection."""
        if self.connection is None:
            return False
        try:
            with ClientCursor(self.connection) as cursor:
                cursor.execute("SELECT 1")
        except Error:
            return False
        return True

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor for the ORM; with a name, one that stays on the server."""
        if name is None:
            return self.connection.cursor()
        with self.connection.cursor() as cursor:
            cursor.prepare()
        # As Django makes it, which asks psycopg whether this is autocommit.
        options = {"name": name, "scrollable": False, "withhold": self.autocommit}
        return base.ServerSideCursor(self.connection, **options)  # type: ignore[call-arg]  # the stubs lack its parents

    def _handle_search_path(self, cursor: Any = None) -> None:
        """Nothing: the cursor does."""

    def _set_autocommit(self, autocommit: bool) -> None:
        # A transaction begins or is over. If a signal's exception came between a COMMIT and the note that these were
        # sent, they are still there.
        self.unsent.clear()
        # psycopg would send BEGIN as a message of its own; so for psycopg, this is always autocommit.
        with self.wrap_database_errors:
            self.connection.autocommit = True
