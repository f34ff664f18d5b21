"""The database backend: django-tenants', with a search path of the tenant's schema alone, which travels with the work.

tenants/postgresql/messages.py has what goes over the wire.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from weakref import WeakSet

import psycopg
from django.db import connections
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel, register_tzloader
from django.db.transaction import TransactionManagementError
from django_tenants.postgresql_backend.base import DatabaseSchemaIntrospection, FakeTenant
from django_tenants.postgresql_backend.base import DatabaseWrapper as TenantDatabaseWrapper
from psycopg import Error
from psycopg.pq import Format

from tenants import binding
from tenants.postgresql.cursors import Cursor, ServerCursor
from tenants.postgresql.messages import Connection
from tenants.postgresql.options import refuse
from tenants.postgresql.poolers import Pooling, find_pooling
from tenants.postgresql.silence import path, patience, wait_no_longer_than

Wrapper = Callable[..., Any]

# For so many seconds a connection that was kept may say nothing, where there is a limit at all
CHECK_SECONDS = 3.0


class ClosedWithItsThread:
    """Closes a connection when its thread ends, where Django leaves that to the garbage collector."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._process = os.getpid()

    def __del__(self) -> None:
        # A fork ends all other threads in the child, whose sessions go on in the parent.
        if os.getpid() == self._process:
            self._connection.close()


_of_thread = threading.local()
# All of this process
_sessions: WeakSet[Connection] = WeakSet()


def _leave_sessions_to_the_parent() -> None:
    """In a child that was forked: what it sent would be the parent's, and end its session. New ones are the child's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for session in _sessions:
        if not session.closed:
            os.dup2(nowhere, session.fileno())
    os.close(nowhere)
    for wrapper in connections.all(initialized_only=True):
        # A block's transaction is the parent's, and what the child writes in it raises.
        if isinstance(wrapper, DatabaseWrapper) and not wrapper.in_atomic_block:
            wrapper.connection = None  # type: ignore[assignment]  # as Django has it before it connects


os.register_at_fork(after_in_child=_leave_sessions_to_the_parent)


def _shared(connection: Connection) -> Cursor:
    """A cursor for statements that name the schema of every table."""
    cursor = Cursor(connection)
    cursor.needs_path = False
    return cursor


def _connect(parameters: dict[str, Any], **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(**{**parameters, **options})


def _is_anothers(owner: binding.Owner | None) -> bool:
    """Whether what this owner has added to a connection is over. That of a process, and of nobody, never is."""
    if owner is None or owner is binding.current_owner():
        return False
    return owner.is_gone or not isinstance(owner, binding.Block)


class Wrappers(list[Wrapper]):
    """Django's list of execute wrappers. Each belongs to the owner that has added it, and goes with that one."""

    def __init__(self) -> None:
        super().__init__()
        self._owners: list[tuple[Wrapper, binding.Owner]] = []
        self._are_nobodys = False

    def append(self, wrapper: Wrapper) -> None:
        """As a list's."""
        super().append(wrapper)
        owner = binding.current_owner()
        if owner is not None and not self._are_nobodys:
            self._owners.append((wrapper, owner))

    @contextmanager
    def of_nobody(self) -> Iterator[None]:
        """Those that are added inside stay."""
        self._are_nobodys = True
        try:
            yield
        finally:
            self._are_nobodys = False

    def forget_those_of_others(self) -> None:
        """Take out those of requests and tasks before this one, and of blocks that were left."""
        for wrapper, owner in self._owners:
            if _is_anothers(owner) and wrapper in self:
                self.remove(wrapper)
        self._owners = [(wrapper, owner) for wrapper, owner in self._owners if wrapper in self]


class DatabaseWrapper(TenantDatabaseWrapper):
    """django-tenants' backend, without its ways of falling through to another schema.

    The search path is the tenant's schema alone: `SET search_path TO gone, public` is no error in PostgreSQL, and a
    table that exists in both schemas would answer from `public`. What a tenant needs of `public` is named with its
    schema. The tenant is not the connection's but the context's (tenants/binding.py).
    """

    connection: Connection
    settings_dict: dict[str, Any]
    pool = None  # as if it was not configured; it is refused

    def __init__(self, *args: Any, **options: Any) -> None:
        # Past django-tenants' own, which would bind every new thread to `public`.
        super(TenantDatabaseWrapper, self).__init__(*args, **options)
        self.introspection = DatabaseSchemaIntrospection(self)
        #: Statements that go with the transaction's COMMIT
        self._with_commit: list[str] = []
        self.execute_wrappers: Wrappers = Wrappers()
        # The settings that direct() has put aside, and for whom
        self._pooled: dict[str, Any] | None = None
        self._direct_for: binding.Owner | None = None

    # The tenant

    @property
    def tenant(self) -> Any:
        """The tenant that is bound, or what django-tenants' contexts restore where none is."""
        return binding.bound_tenant()

    @property
    def schema_name(self) -> str:
        """The schema that is bound. Raises Unbound."""
        return binding.current().schema_name

    def set_tenant(self, tenant: Any, include_public: bool = True) -> None:
        """Bind this context to a tenant."""
        binding.bind(tenant)

    def set_schema(self, schema_name: str, include_public: bool = True, tenant_type: Any = None) -> None:
        """Bind this context to a schema."""
        self.set_tenant(FakeTenant(schema_name=schema_name, tenant_type=tenant_type))

    def _handle_search_path(self, cursor: Any = None) -> None:
        """Nothing: each message carries its path."""

    # The connection

    def connect(self) -> None:
        """As Django's, which may send what needs no tenant: nothing has to be bound yet."""
        with self.execute_wrappers.of_nobody():
            super().connect()
        self.connection.remember_defaults()
        owner = binding.current_owner()
        self.connection.serve(owner)
        self.connection.must_clean = bool(owner and owner.limits)

    def get_connection_params(self) -> dict[str, Any]:
        """As Django's. Raises ImproperlyConfigured for options that would break a promise."""
        if self.alias != NO_DB_ALIAS:
            refuse(self.alias, self.settings_dict)
        parameters: dict[str, Any] = super().get_connection_params()
        return parameters

    def get_new_connection(self, conn_params: Any) -> Connection:
        """A connection that sends the search path with each statement."""
        self._with_commit.clear()
        self.isolation_level = IsolationLevel.READ_COMMITTED
        parameters = {**conn_params, "autocommit": True}
        with path.connecting() if patience.get() is not None else nullcontext():
            connection = Connection.connect(**{**parameters, "cursor_factory": Cursor})
            connection.server_cursor_factory = ServerCursor
            connection.alias = self.alias
            _sessions.add(connection)
            try:
                connection.pooling = find_pooling(connection, partial(_connect, parameters))
            except BaseException:
                connection.close()
                raise
        setattr(_of_thread, f"{self.alias} {id(self)}", ClosedWithItsThread(connection))
        return connection

    @contextmanager
    def direct(self) -> Iterator[None]:
        """A connection past the pooler, if there is one: for what needs a session for longer than a transaction.

        Raises TransactionManagementError in a transaction.
        """
        if self.in_transaction():
            raise TransactionManagementError("Leave atomic() first: its transaction is this connection's alone.")
        direct = self._direct_settings()
        if direct is not None:
            self.close()
            self._pooled, self.settings_dict = self.settings_dict, direct
            self._direct_for = binding.current_owner()
        try:
            yield
            if self.in_transaction():
                self.close()
                raise TransactionManagementError("A transaction that was begun in it is still open: it is rolled back.")
        finally:
            # Else a generator has left it unfinished, and the next owner has done so, or will.
            if direct is not None and direct is self.settings_dict and self._thread_ident == threading.get_ident():
                self._leave_direct()

    def _leave_direct(self) -> None:
        pooled = self._pooled
        if pooled is not None:
            self.close()
            self.settings_dict = pooled
            self._pooled = self._direct_for = None

    def _direct_settings(self) -> dict[str, Any] | None:
        if "DIRECT" not in self.settings_dict:
            return None
        direct = {**self.settings_dict, **self.settings_dict["DIRECT"]}
        del direct["DIRECT"]
        return direct

    def find_direct_pooling(self) -> Pooling | None:
        """What `direct()` leads to; None if there is no way past the pooler. It asks on a connection of its own."""
        direct = self._direct_settings()
        if direct is None:
            return None
        parameters = {**DatabaseWrapper(direct, self.alias).get_connection_params(), "autocommit": True}
        with self.wrap_database_errors, _connect(parameters) as connection:
            return find_pooling(connection, partial(_connect, parameters))

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor for the ORM; with a name, one that stays on the server."""
        if name is None:
            return super().create_cursor()
        # Outside of a transaction it outlives the one that it is made in.
        cursor = self.connection.cursor(name, scrollable=False, withhold=self.connection.autocommit)
        loader: Any = self.connection.adapters.get_loader(base.TIMESTAMPTZ_OID, Format.TEXT)
        if self.timezone != loader.timezone:
            register_tzloader(self.timezone, cursor)
        return cursor

    def shared_cursor(self) -> Any:
        """A cursor for statements that name the schema of every table. Nothing has to be bound."""
        cursor = self.cursor()
        cursor.cursor.needs_path = False
        return cursor

    def is_usable(self) -> bool:
        """As Django's; nothing has to be bound."""
        if self.connection is None:
            return False
        limit = nullcontext() if patience.get() is None else wait_no_longer_than(CHECK_SECONDS)
        try:
            with limit, _shared(self.connection) as cursor:
                cursor.execute("SELECT 1")
        except Error:
            return False
        return True

    # The transaction

    def send_with_commit(self, statement: str, parameters: Any) -> None:
        """Send a statement in one message with the transaction's COMMIT; nobody sees its result.

        It names the schema of every table. What it raises on the server, the COMMIT raises, and nothing is committed.
        In a nested block and outside of transactions it is sent at once. In a block that Django will roll back, this
        raises.
        """
        if self.in_atomic_block and not self.savepoint_ids and not self.needs_rollback:
            with self.wrap_database_errors:
                self._with_commit.append(_shared(self.connection).mogrify(statement, parameters))
        else:
            with self.shared_cursor() as cursor:
                cursor.execute(statement, parameters)

    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        """As Django's, whose atomic() alone gives the second argument."""
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        self.connection.begin_atomic(not autocommit and force_begin_transaction_with_broken_autocommit)

    def _commit(self) -> None:
        if self.connection is None:
            return
        with self.wrap_database_errors:
            self.connection.end_atomic()
        # After an error that nobody told Django of, COMMIT alone says best what is wrong.
        if self._with_commit and not self.connection.has_failed():
            with self.shared_cursor() as cursor:
                path = self.connection.path_of_commit().decode()
                cursor.execute("; ".join([*self._with_commit, path, "COMMIT"]))
        else:
            super()._commit()

    def _rollback(self) -> None:
        self._with_commit.clear()
        if self.connection is not None:
            self.connection.in_atomic = False
        super()._rollback()

    # Django's own savepoints name no table, so nothing has to be bound.

    def _savepoint(self, sid: str) -> None:
        with self.shared_cursor() as cursor:
            cursor.execute(self.ops.savepoint_create_sql(sid))

    def _savepoint_rollback(self, sid: str) -> None:
        with self.shared_cursor() as cursor:
            cursor.execute(self.ops.savepoint_rollback_sql(sid))

    def _savepoint_commit(self, sid: str) -> None:
        with self.shared_cursor() as cursor:
            cursor.execute(self.ops.savepoint_commit_sql(sid))

    def _set_autocommit(self, autocommit: bool) -> None:
        # A transaction begins or is over. If a signal's exception came after a COMMIT, these are still there.
        self._with_commit.clear()
        if not autocommit:
            self.connection.refuse_second_transaction()
        super()._set_autocommit(autocommit)
        self.connection.note_transaction()

    def in_transaction(self) -> bool:
        """Whether a transaction is open that a body, or its caller, began. That around a Django TestCase is not one."""
        if self.in_atomic_block:
            return not self._is_in_testcase()
        # One that a lost connection had is gone.
        if self.connection is None or self.connection.closed:
            return False
        # By psycopg's word too: Django does not know of a BEGIN that a body executed.
        return not self.autocommit or not self.connection.is_idle()

    def _is_in_testcase(self) -> bool:
        # An exception of a signal's handler may have come before the block was noted.
        return bool(self.atomic_blocks) and self.atomic_blocks[-1]._from_testcase

    def abandon_transaction(self) -> None:
        """Close the connection in the midst of a transaction, whose atomic blocks nobody will leave any more."""
        # close() alone would wait for them with a dead connection.
        self.in_atomic_block = self.closed_in_transaction = False
        self.close()

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.cancel_statement()
            self.connection.was_closed = not self.connection.closed
        super()._close()

    # The owner

    def ensure_connection(self) -> None:
        """As Django's. A session that another owner had, on a helper thread say, is not handed on as it is."""
        session: Connection | None = self.connection
        owner = binding.current_owner()
        if session and owner and session.owner is not owner and not (session.is_new or session.closed):
            self._forget_others()
            if self._direct_for not in (None, owner):
                self._leave_direct()
            else:
                self._hand_over(owner, at_once=True)
        super().ensure_connection()

    def _hand_over(self, owner: binding.Owner | None, *, at_once: bool = False) -> None:
        session = self.connection
        if self.autocommit and session.autocommit and session.is_idle():
            if patience.get() is not None and path.was_silent_since(session.connected_at):
                self.close()
                return
            session.start_clean()
            session.serve(owner)
            # What others may wait for, and what the next message would be read by. A thread of its own has no small
            # statement of ours before the body's: a time-out of the last owner's could end that.
            if at_once or session.may_hold_locks or session.is_read_oddly():
                session.clean_now()
                if session.closed:
                    self.close()
        elif session.owner is None or (self.in_atomic_block and self._is_in_testcase()):
            session.serve(owner)
        elif owner is not None and not isinstance(owner, binding.Block):
            if not session.owner.is_gone:
                raise TransactionManagementError(
                    "This thread's connection has a transaction open that another request or task has begun, and this "
                    "context is of one before it."
                )
            self.abandon_transaction()
        elif not self.in_atomic_block:  # in which one thing after the other may be bound
            self.close()
            raise TransactionManagementError(
                "A transaction that was begun by hand was still open when its block, of schema_context say, was left. "
                "It is rolled back."
            )

    def on_commit(self, func: Any, robust: bool = False) -> None:
        """As Django's; what runs then is at home where this was called, whatever is bound by then."""
        super().on_commit(binding.at_home(func) if callable(func) else func, robust)

    def start_clean(self) -> bool:
        """Let the next message clean the session, which has a new owner. False, and nothing, inside an atomic block."""
        if self.in_atomic_block:
            return False
        self._forget_others()
        self._leave_direct()
        if self.connection is not None:
            self._hand_over(binding.current_owner())
        return True

    def _forget_others(self) -> None:
        """Let the execute wrappers of owners before this one go, and their log of queries."""
        self.execute_wrappers.forget_those_of_others()
        if _is_anothers(self._logs_for):
            self.force_debug_cursor = False
        if not self.force_debug_cursor:
            self.queries_log.clear()

    @property
    def force_debug_cursor(self) -> bool:
        """As Django's: whether queries are logged."""
        return self._logs

    @force_debug_cursor.setter
    def force_debug_cursor(self, logs: bool) -> None:
        self._logs = logs
        self._logs_for = binding.current_owner() if logs else None

    @contextmanager
    def execute_wrapper(self, wrapper: Wrapper) -> Iterator[None]:
        """As Django's. One whose owner is gone, that a generator has left unfinished, ends no other."""
        own = partial(wrapper)
        self.execute_wrappers.append(own)
        try:
            yield
        finally:
            if own in self.execute_wrappers:
                self.execute_wrappers.remove(own)
