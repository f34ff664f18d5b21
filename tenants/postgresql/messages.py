"""What goes over the wire: each statement with the search path of the tenant that is bound.

A statement outside of a transaction and its path are one message, which PostgreSQL takes for a transaction; one inside
a transaction has `SET LOCAL` before it. Nothing remembers which path is set, so nothing can be wrong about it.

This leans on parts of psycopg that are not documented. tests/tenants/test_private_api.py fails when one goes away.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock, get_ident
from typing import Any, Protocol
from weakref import WeakSet

import psycopg
from django.db.transaction import TransactionManagementError
from psycopg import errors, generators
from psycopg._preparing import PrepareManager
from psycopg.adapt import AdaptersMap
from psycopg.pq import ExecStatus, TransactionStatus

from tenants import binding
from tenants.postgresql.poolers import Pooling
from tenants.postgresql.silence import Silence, listen, path, patience
from tenants.postgresql.statements import CLEANING, COMMIT, END
from tenants.postgresql.transactions import OpenTransaction, kept_apart_from, open_transaction

# When the transaction began, to the microsecond: no two of a session's have it in common
BEGAN_AT = b"SELECT pg_catalog.now()"
# Where nothing is bound
NO_PATH = b"SET LOCAL search_path = pg_catalog, pg_temp"
# For how long to try to cancel a statement
CANCEL_SECONDS = 2
# Tags of what may follow ROLLBACK TO SAVEPOINT in one message
HARMLESS = {b"ROLLBACK", b"SAVEPOINT", b"SET"}
# What psycopg lets an owner set on a connection
OWNERS_TO_SET = (
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
    "_isolation_level",
    "_read_only",
    "_deferrable",
    "_begin_statement",
)


ENDED_INSIDE = (
    "The transaction of an atomic() block, or of a job, was ended inside of it, by COMMIT or ROLLBACK. What was "
    "written after that is not committed."
)

ENDS_BLOCK = (
    "This would end the transaction of an atomic() block, or of a job, inside of it. Raise an exception to roll it "
    "back; give what may fail an atomic() block of its own."
)


class Carrier(Protocol):
    """A cursor whose messages have room for what comes before its statement."""

    needs_path: bool
    prelude: list[bytes]


class TransactionOfOne:
    """A transaction for a statement that can't be one message with its search path; the one that is open, if one is.

    A class, and no generator: a time limit that came between a generator and its `with` would leave the transaction
    open, until the generator is collected and rolls back what came after it.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._begun: psycopg.Transaction | None = None

    def __enter__(self) -> None:
        connection = self._connection
        if connection.autocommit and connection.is_idle():
            self._begun = psycopg.Transaction(connection)
            self._begun.__enter__()
        else:
            connection.begin_late()
        connection.is_known = True

    def __exit__(self, *exception: Any) -> None:
        self._connection.is_known = False
        if self._begun is not None:
            self._begun.__exit__(*exception)


class Connection(psycopg.Connection[Any]):
    """psycopg's connection, which sends the search path before each statement of whatever cursor."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Who streams rows holds it: with psycopg's own Lock, a statement of the same thread would wait for ever.
        self.lock = RLock()  # type: ignore[assignment]  # enters and leaves as a Lock does
        #: Django's name of the database
        self.alias = ""
        #: Whom it served last, and on which thread
        self.owner: binding.Owner | None = None
        self._thread = get_ident()
        #: Whether the next message begins with CLEANING
        self.must_clean = False
        #: Whether the owner has asked for a lock of the session, for which others wait, though it is idle
        self.may_hold_locks = False
        #: By time.monotonic()
        self.connected_at = time.monotonic()
        #: Seconds to wait for an answer; None: for as long as it takes
        self.patience: float | None = None
        #: What it leads to
        self.pooling = Pooling.NONE
        #: Whether Django's atomic() has begun the transaction, and shall end it
        self.in_atomic = False
        #: Whether somebody else has ended it
        self.has_ended = False
        self._has_begun = False
        # When the transaction of atomic() began, once that is known
        self._began_at: bytes | None = None
        # Whether a cursor made by hand, whose text nobody sees, may have ended it
        self._may_have_ended = False
        # By weak references: an error keeps alive all that its traceback saw.
        self._errors: WeakSet[psycopg.Error] = WeakSet()
        #: Whether somebody has closed it in good order: it was not lost
        self.was_closed = False
        #: Whether Django still sets the session up: with nothing bound, that is no error
        self.is_new = True
        #: The cursor that sends the next message, if that has room
        self.carrier: Carrier | None = None
        #: The cursor whose search path is the session's for a while
        self.runs_alone: Carrier | None = None
        # The path that was sent before a statement which is not sent yet
        self._sent_path: bytes | None = None
        #: Whether our own cursor is at work
        self.is_known = False
        # Whether a statement of the transaction needed the search path: triggers that wait for the COMMIT may, too
        self._needs_path = True
        self._transaction: OpenTransaction | None = None

    def remember_defaults(self) -> None:
        """The session is set up: whatever an owner makes of the connection from now on, the next one finds it so."""
        self.is_new = False
        self._defaults = {name: vars(self)[name] for name in OWNERS_TO_SET}
        self._default_threshold = self.prepare_threshold
        self._default_reading = self._reading()
        self._adapters_template = self.adapters
        self._adapters = AdaptersMap(self._adapters_template)

    def start_clean(self) -> None:
        """Let the next message clean the session, and find psycopg's side of it as it was."""
        self.must_clean = True
        vars(self).update(self._defaults)
        self._adapters = AdaptersMap(self._adapters_template)
        self._notice_handlers = []
        self._notify_handlers = []
        self._notifies_backlog = deque()
        self._errors.clear()
        self._prepared = PrepareManager()
        self.prepare_threshold = self._default_threshold

    def note_cleaned(self) -> None:
        """A message has been answered, which began with CLEANING if it had to."""
        if self.must_clean:
            self.must_clean = False
            # What came for the last owner, whose UNLISTEN this was
            self._notifies_backlog = deque()

    def serve(self, owner: binding.Owner | None) -> None:
        """It has this owner from now on, on this thread."""
        self.owner = owner
        self._thread = get_ident()

    def clean_now(self) -> None:
        """Clean the session in a message of its own. One that fails to is closed."""
        self.may_hold_locks = False
        try:
            with self.lock:
                self.wait(self._send(self._cleaning()))
        except psycopg.Error:
            self.close()

    def is_read_oddly(self) -> bool:
        """Whether a message would be written, or read by the server, otherwise than in a new session. Then one that
        begins with CLEANING is, too.
        """
        return not self.is_new and self._reading() != self._default_reading

    def make_readable(self) -> None:
        """Before a statement is written: see that nothing of another owner, or transaction, says how it is read."""
        self._meet_owner()
        if self.shares_sessions and self.is_idle() and self.is_read_oddly():
            self.clean_now()

    def _reading(self) -> tuple[bytes | None, bytes | None]:
        status = self.pgconn.parameter_status
        return status(b"client_encoding"), status(b"standard_conforming_strings")

    @property
    def shares_sessions(self) -> bool:
        """Whether each transaction may get another session, by a pooler: then each begins with CLEANING."""
        return self.pooling.shares_sessions

    def is_idle(self) -> bool:
        """Whether no transaction is open on the server, and no statement is running."""
        return self.pgconn.transaction_status == TransactionStatus.IDLE

    def has_failed(self) -> bool:
        """Whether a statement of the transaction has failed."""
        return self.pgconn.transaction_status == TransactionStatus.INERROR

    def raised(self, error: BaseException) -> bool:
        """Whether it is an answer of the server's to this owner."""
        return error in self._errors

    def cancel_statement(self) -> None:
        """Cancel the statement that runs, if one does."""
        # A time limit ends the wait for it, but it would run on and keep its locks.
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """As psycopg's. What interrupts it, a soft time limit say, cancels the statement: the next one can be sent.

        Raises Silence, and closes the connection, when this context has waited for long enough.
        """
        seconds = patience.get()
        heard = gen if seconds is None or "timeout" in options else listen(gen, seconds)
        path_of_outer, self._sent_path = self._sent_path, None
        try:
            return super().wait(heard, *args, **{"timeout": self.patience, **options})
        except Silence:
            # The statement has a time limit on the server, which need not be told.
            path.note_silence()
            self.close()
            raise
        except psycopg.Error as error:
            if error.sqlstate:
                self._errors.add(error)
            raise
        except BaseException:  # gevent's Timeout is no Exception
            self.cancel_statement()
            # Its answer, which is an error, has to be read, also if it was the generator that was interrupted.
            for answer in (gen, generators.execute(self.pgconn)):
                with suppress(psycopg.Error):
                    super().wait(answer, timeout=CANCEL_SECONDS)
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise
        finally:
            self._sent_path = path_of_outer
            if path_of_outer is not None and self.pgconn.transaction_status == TransactionStatus.INTRANS:
                # This was asked while the parameters of another statement were made ready, whose path is sent already.
                super().wait(self._send([path_of_outer]))

    def begin_atomic(self, in_atomic: bool) -> None:
        """A transaction of Django's atomic() begins with the next statement; or there is none any more."""
        self.in_atomic = in_atomic
        self._has_begun = self.has_ended = self._may_have_ended = False
        self._began_at = None

    def end_atomic(self) -> None:
        """Django ends the transaction of atomic(). Raises InFailedSqlTransaction if somebody else has."""
        self.note_transaction()
        if self._may_have_ended:
            with self.lock:
                self.wait(self._look_when_it_began())
        self.in_atomic = False
        if self.has_ended:
            raise errors.InFailedSqlTransaction(ENDED_INSIDE)

    def _set_autocommit_gen(self, value: bool) -> Generator[Any, Any, None]:
        if self.in_atomic and value:
            raise psycopg.ProgrammingError(ENDS_BLOCK)
        yield from super()._set_autocommit_gen(value)

    def refuse_end(self, command: bytes) -> None:
        """Raise if this would end the transaction of atomic(): what follows in the block would be in another one."""
        if self.in_atomic and END.match(command):
            raise psycopg.ProgrammingError(ENDS_BLOCK)

    def note_results(self, results: Sequence[Any]) -> None:
        """Find out that a message of several statements has ended the transaction of atomic(), and begun another."""
        if not self.in_atomic or len(results) == 1:
            return
        tags = [result.command_status for result in results]
        back = tags.index(b"ROLLBACK") if b"ROLLBACK" in tags else len(tags)
        # What follows a ROLLBACK TO SAVEPOINT has the search path of the savepoint.
        self.has_ended |= b"COMMIT" in tags or not HARMLESS.issuperset(tags[back:])
        self._may_have_ended |= b"ROLLBACK" in tags

    def note_transaction(self) -> None:
        """Let this context know whether it has a transaction open here."""
        if self.in_atomic:
            self.has_ended |= self._has_begun and self.is_idle()
            self._has_begun |= not self.is_idle()
        is_open = not self._autocommit or not self.is_idle()
        if is_open and self._transaction is None:
            self._transaction = OpenTransaction(self.alias, outer=open_transaction.get())
            open_transaction.set(self._transaction)
        elif not is_open and self._transaction is not None:
            self._transaction.over = True
            open_transaction.set(self._transaction.outer)
            self._transaction = None

    def place_of_cursors(self, *, withhold: bool) -> tuple[Any, Any]:
        """What a named cursor lives in: an owner, and unless it was made `withhold`, a transaction."""
        return self.owner, None if withhold else self._transaction

    def notifies(self, *args: Any, **options: Any) -> Generator[psycopg.Notify, None, None]:
        """As psycopg's. One that is left unfinished, and ends late, hands nothing of its owner's to the next one."""
        received = super().notifies(*args, **options)
        try:
            for notify in received:  # noqa: UP028  # on close(), `yield from` would end psycopg's part first
                yield notify
        finally:
            # psycopg has none while it is read, and puts its own back.
            of_next = self._notifies_backlog
            try:
                received.close()  # which raises where another thread collects it
            finally:
                if of_next is not None:
                    self._notifies_backlog = of_next

    def close(self) -> None:
        """As psycopg's; whatever transaction was open is over."""
        super().close()
        if self._transaction is not None:
            self._transaction.over = True

    @contextmanager
    def transaction(self, *args: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        """As psycopg's; inside Django's atomic() it is a savepoint, even if that has sent nothing yet."""
        self.begin_late()
        with super().transaction(*args, **options) as transaction:
            yield transaction

    def begin_late(self) -> None:
        """Begin the transaction of atomic(), if that has sent nothing yet."""
        # psycopg's executemany() would have to begin it in a pipeline, where a message holds one statement.
        if not self._autocommit and self.is_idle():
            with self.lock:
                self.wait(self._send(self._prelude(needs_path=False)))

    @contextmanager
    def alone(self, cursor: Carrier) -> Iterator[None]:
        """For a statement that can't be in a transaction: a search path of the session, for as long as it runs."""
        path = [self._path().replace(b"SET LOCAL", b"SET", 1)] if cursor.needs_path else []
        with self.lock:
            self.wait(self._send([*self._prelude(needs_path=False), *path]))
        self.runs_alone = cursor
        try:
            yield
        finally:
            self.runs_alone = None
            if not self.closed and self.is_idle():
                with self.lock:
                    self.wait(self._send([b"RESET search_path"]))

    def pipeline(self) -> Any:
        """Raises NotSupportedError: in a pipeline, a message holds one statement, and no path."""
        raise psycopg.NotSupportedError("A tenant's statements need their search path: use executemany().")

    def _path(self) -> bytes:
        if self.is_new:
            return NO_PATH
        return binding.current().set_path

    def path_of_commit(self) -> bytes:
        """The statement that goes before a COMMIT: deferred triggers run in it, with what is bound now."""
        return binding.current().set_path if binding.bound_schema() else NO_PATH

    def _prelude(self, *, needs_path: bool = True) -> list[bytes]:
        """What has to come before a statement that is sent now."""
        self.refuse_second_transaction()
        self._meet_owner()
        self.note_transaction()
        if self.has_ended:
            raise TransactionManagementError(ENDED_INSIDE)
        status = self.pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            return []  # PostgreSQL takes a ROLLBACK alone
        prelude: list[bytes] = []
        if status == TransactionStatus.IDLE:
            if self._must_clean():
                prelude += self._cleaning()
            if not self._autocommit:
                prelude.append(self._get_tx_start_command())
        self._needs_path = needs_path or (self._needs_path and status != TransactionStatus.IDLE)
        if needs_path:
            prelude.append(self._path())
        return prelude

    def refuse_second_transaction(self) -> None:
        """Raise TransactionManagementError if this context has a transaction open on another connection."""
        if self._transaction is not None and kept_apart_from.get() is self._transaction:
            raise TransactionManagementError(
                "separate_transaction() is for another thread's connection: this one has the transaction open."
            )
        # By itself, what is written here would be committed, whatever becomes of the work that it belongs to.
        other = open_transaction.get()
        while other is not None and (other.over or other is self._transaction or other.alias != self.alias):
            other = other.outer
        if other is not None and not self.is_new:
            raise TransactionManagementError(
                "This would commit by itself: a transaction is open on another thread's connection. Run coroutines by "
                "asgiref.sync.async_to_sync, with sync_to_async or Django's own a…() methods inside, which stay in the "
                "thread of the transaction; or enter tenants.session.separate_transaction(), if it shall."
            )

    # psycopg's generators, which do its talking

    def _start_query(self) -> Generator[Any, Any, None]:
        """What psycopg does before each statement of each cursor."""
        self._refuse_while_streaming()
        if self.carrier is not None and self.carrier is self.runs_alone:
            return
        if self.carrier is not None:
            if self._may_have_ended:
                yield from self._look_when_it_began()
            self.carrier.prelude = self._prelude(needs_path=self.carrier.needs_path)
            return
        if self.pgconn.transaction_status == TransactionStatus.INERROR:
            raise errors.InFailedSqlTransaction(
                "A statement of the transaction has failed. Give what may fail an atomic() block of its own."
            )
        if self._is_unseen() and not self._pipeline:
            yield from self._look_when_it_began()
        prelude = self._prelude()
        if self.is_idle() and self._autocommit:
            raise psycopg.ProgrammingError(
                "Outside of a transaction, a cursor that was made by hand has no search path: enter "
                "connection.transaction() or Django's atomic(), or call connection.cursor()."
            )
        if self._pipeline:
            for command in prelude:
                yield from super()._exec_command(command)
        else:
            yield from self._send(prelude)
            self._sent_path = prelude[-1]
        self.may_hold_locks |= not self.is_known
        self._may_have_ended |= self._is_unseen()

    def _refuse_while_streaming(self) -> None:
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE and not self._pipeline:
            raise psycopg.ProgrammingError(
                "A stream() or a COPY of this connection is unfinished: read it to its end, or close it, before the "
                "next statement."
            )

    def _pipeline_nolock(self) -> Any:
        """What psycopg's executemany() enters, in which nothing can be asked."""
        if self._is_unseen():
            self.wait(self._look_when_it_began())
        return super()._pipeline_nolock()

    def _is_unseen(self) -> bool:
        """Whether a cursor that was made by hand is at work in atomic(), which may end its transaction."""
        return self.in_atomic and not self.is_known

    def _look_when_it_began(self) -> Generator[Any, Any, None]:
        """Find out that a cursor made by hand has ended the transaction of atomic(), and begun another."""
        if self.pgconn.transaction_status == TransactionStatus.INTRANS:
            self._may_have_ended = False
            result = yield from self._send([BEGAN_AT])
            began_at = result.get_value(0, 0)
            self.has_ended |= self._began_at not in (None, began_at)
            self._began_at = began_at

    def _exec_command(self, command: Any, *args: Any, **options: Any) -> Generator[Any, Any, Any]:
        """What psycopg itself executes: BEGIN, COMMIT, ROLLBACK, savepoints, and what it does with named cursors."""
        text = command if isinstance(command, bytes) else self._as_bytes(command)
        self._refuse_stale_thread()
        self._refuse_while_streaming()
        self.refuse_end(text)
        if text.startswith((b"FETCH", b"MOVE")) and not self.is_idle():
            # A query that goes on: its functions look names up as it runs.
            yield from self._send(self._prelude())
        begins = self.is_idle() and not text.startswith((b"ROLLBACK", b"CLOSE"))
        if begins:
            self.refuse_second_transaction()
            self._meet_owner()
        try:
            if begins and self._must_clean():
                result = yield from self._send([*self._cleaning(), text])
            elif (
                self._needs_path and COMMIT.match(text) and self.pgconn.transaction_status == TransactionStatus.INTRANS
            ):
                result = yield from self._send([self.path_of_commit(), text])
            else:
                result = yield from super()._exec_command(text, *args, **options)
        finally:
            self.note_transaction()
        if result is not None:
            self.check_commit(text, result)
        return result

    def _meet_owner(self) -> None:
        """For psycopg's own ways to the session, past Django, which hands it over in another place."""
        owner = binding.current_owner()
        if owner is self.owner or self.owner is None or self.is_new:
            return
        self._refuse_stale_thread()
        if owner is None or self.in_atomic:
            return
        if not (self._autocommit and self.is_idle()):
            raise TransactionManagementError(
                "A transaction that another request or task has begun is still open on this thread's connection. "
                "Call django.db.connection.cursor(), which rolls it back."
            )
        self.start_clean()
        self.serve(owner)
        if self.is_read_oddly():
            self.clean_now()

    def _refuse_stale_thread(self) -> None:
        if self._thread == get_ident() or self.is_new or self.owner in (None, binding.current_owner()):
            return
        raise TransactionManagementError(
            "This connection serves another request or task by now, on another thread. A thread of your own has a "
            "connection of its own: call django.db.connection.cursor() there."
        )

    def _must_clean(self) -> bool:
        return self.must_clean or self.shares_sessions

    def _cleaning(self) -> list[bytes]:
        *cleaning, commit = CLEANING
        return [*cleaning, *(self.owner.limits if self.owner else ()), commit]

    def _as_bytes(self, command: Any) -> bytes:
        return command.encode() if isinstance(command, str) else bytes(command.as_bytes(self))

    def _send(self, commands: Sequence[bytes]) -> Generator[Any, Any, Any]:
        """Send commands in one message; the result of the last one."""
        if not commands:
            return None
        self._check_connection_ok()
        self.pgconn.send_query(b"; ".join(commands))
        results = yield from generators.execute(self.pgconn)
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result, encoding=self.pgconn._encoding)
        self.note_cleaned()
        return results[-1]

    def check_commit(self, command: bytes, result: Any) -> None:
        """Raise if this was a COMMIT that PostgreSQL turned into a ROLLBACK. It does that without an error."""
        if result.command_status == b"ROLLBACK" and COMMIT.match(command):
            raise errors.InFailedSqlTransaction(
                "Nothing was committed: a statement of the transaction had failed, so PostgreSQL answered COMMIT with "
                "ROLLBACK. Let the error leave atomic(), or run what may fail in an atomic() block of its own."
            )
