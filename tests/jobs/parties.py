"""Workers, a relay and others as threads, each with a connection of its own, that stop where a test has a look.

A party moves only when told to, up to its next stop; it may be told to die there, or its connection to end.
"""

import threading
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from queue import SimpleQueue
from typing import Any

from django.db import OperationalError, connections

from jobs.statements import CLAIM
from tenants.binding import bind_to_public
from tenants.connection import connection
from tests.jobs.durables import sql

IDLE = "idle"
RECEIVED = "received"  # about to claim
CLAIMED = "claimed"  # the claim is committed, its reply not yet seen
ENDING = "ending"  # the last statement of a transaction that ends a job was run, its COMMIT not
DROPPING = "dropping"  # about to drop a schema, with the tenant locked
DEADLINE = 20


class Order(StrEnum):
    GO = "go on"
    CUT = "the connection is lost"
    DIE = "kill -9"
    CUT_AFTER_COMMIT = "the reply to the COMMIT is lost"
    DIE_AFTER_COMMIT = "kill -9 while the COMMIT is under way"
    # For bodies
    RETRY = "self.retry()"
    SNOOZE = "self.snooze()"
    PASS = "the server cancels a statement"
    FAIL = "an exception"
    IGNORE = "Ignore"


class Killed(BaseException):
    """Nothing of this process runs any more: whoever catches it finds that no statement works."""


class Party:
    def __init__(self, name: str) -> None:
        self.name = name
        self.at = IDLE
        self.outcome: Any = None
        self.job_id = self.token = ""  # which it wants to claim, or has
        self.moved = False  # since the test's last look
        self.waited = False  # for another party's lock, in its present call
        self._killed = self._cut = False
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._quiet = threading.Event()
        self._quiet.set()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    # The test's side

    @property
    def quiet(self) -> bool:
        return self._quiet.is_set()

    @property
    def stopped(self) -> bool:
        """It is in the middle of something, and awaits an order."""
        return self.quiet and self.at != IDLE

    @property
    def idle(self) -> bool:
        return self.quiet and self.at == IDLE

    @property
    def failed(self) -> bool:
        """Its call raised what no order of the test explains."""
        return self.idle and isinstance(self.outcome, BaseException) and not (self._killed or self._cut)

    def rest(self, seconds: float) -> None:
        self._quiet.wait(seconds)

    def start(self, call: Callable[[], Any], *, token: str = "") -> None:
        self.token, self.waited, self.outcome = token, False, None
        self._killed = self._cut = False
        self._tell(call)

    def go(self, order: Order = Order.GO) -> None:
        pid = self.pid
        self._tell(order)
        if order in (Order.CUT, Order.DIE, Order.CUT_AFTER_COMMIT, Order.DIE_AFTER_COMMIT):
            # The server finds out by itself, and frees the locks then.
            _await(lambda: not sql("SELECT FROM pg_stat_activity WHERE pid = %s", pid), f"{self.name}'s session ends")

    def forget(self) -> None:
        self.moved, self.job_id, self.token, self.outcome = False, "", "", None

    def end(self) -> None:
        self._orders.put(None)
        self._thread.join(DEADLINE)

    @property
    def pid(self) -> int:
        session = self._db.connection
        return session.info.backend_pid if session is not None and not session.closed else 0

    def _tell(self, order: Any) -> None:
        self.moved = True
        self._quiet.clear()
        self._orders.put(order)

    # Its own side

    def _serve(self) -> None:
        _here.party = self
        bind_to_public()
        self._db = connections["default"]
        connection.execute_wrappers.append(self._on_statement)
        while (call := self._orders.get()) is not None:
            try:
                self.outcome = call()
            except BaseException as error:
                self.outcome = error
                connection.close()
            self._rest(IDLE)
        connection.close()

    def _on_statement(self, execute: Callable[..., Any], statement: str, parameters: Any, *context: Any) -> Any:
        if self._killed:
            raise Killed
        if statement == CLAIM:
            self.job_id, self.token = parameters["id"], parameters["token"]
            self.stop(RECEIVED)
        elif statement.startswith("DROP SCHEMA"):
            self.stop(DROPPING)
        if statement.endswith("; COMMIT") and _ends_job(statement):
            # That message taken apart, for others to come in between.
            end, _, commit = statement.rpartition("; ")
            execute(end, parameters, *context)
            self.stop(ENDING)
            return execute(commit, parameters, *context)
        result = execute(statement, parameters, *context)
        if statement == CLAIM:
            self.stop(CLAIMED)
        elif _ends_job(statement):
            self.stop(ENDING)
        return result

    def stop(self, at: str) -> Order:
        """Wait for an order, and obey it as far as that is not the body's business."""
        self._rest(at)
        order: Order = self._orders.get()
        session = connection.connection
        if order in (Order.CUT_AFTER_COMMIT, Order.DIE_AFTER_COMMIT):
            session.commit()
        if order in (Order.CUT, Order.CUT_AFTER_COMMIT):
            self._cut = True
            session.close()
            if at == CLAIMED:
                raise OperationalError("The reply is lost")
        if order in (Order.DIE, Order.DIE_AFTER_COMMIT):
            session.close()
            self._killed = True
            raise Killed
        return order

    def _rest(self, at: str) -> None:
        self.at = at
        self._quiet.set()


def _ends_job(statement: str) -> bool:
    return "INTO" in statement and "taskresult AS stored" in statement


_here = threading.local()


def here() -> Party:
    """The party whose thread this is."""
    party: Party = _here.party
    return party


def settle(parties: Iterable[Party]) -> None:
    """Return when each party has stopped, is through, or waits for a lock that another one holds."""
    for party in parties:
        party.rest(0.003)
    _await(lambda: _all_rest(parties), "all parties stop, or wait for each other")


def _all_rest(parties: Iterable[Party]) -> bool:
    restless = [party for party in parties if not party.quiet]
    if not restless:
        return True
    waiting = sql(
        "SELECT pid FROM unnest(%s::int[]) pid WHERE pg_blocking_pids(pid) <> '{}'", [p.pid for p in restless]
    )
    for party in restless:
        party.waited |= (party.pid,) in waiting
    return len(waiting) == len(restless)


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"In vain awaited: {what}"
        time.sleep(0.001)
