"""A connection finds out what it leads to, whoever else uses the pooler meanwhile."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import psycopg
import pytest

from tenants.postgresql.poolers import Pooling, find_pooling
from tests.poolers.pgbouncer import pgbouncer

pytestmark = pytest.mark.needs("pgbouncer")

MODES = ["session", "transaction", "statement"]
SECONDS = 5.0


def found(url: str) -> Pooling:
    """By a process that has never asked before."""
    connect = partial(psycopg.connect, url, autocommit=True)
    began = time.monotonic()
    with connect() as connection:
        pooling = find_pooling(connection, connect, known={})
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert time.monotonic() - began < SECONDS
    return pooling


@contextmanager
def traffic(url: str, *, clients: int, pause: float = 0.0) -> Iterator[None]:
    """Clients that each have one transaction after the other."""
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            while not stop.wait(pause):
                connection.execute("SELECT pg_sleep(0.001)")

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_no_pooler() -> None:
    assert found(os.environ["DATABASE_URL"]) is Pooling.NONE


@pytest.mark.parametrize("round_robin", ["0", "1"])
@pytest.mark.parametrize("mode", MODES)
def test_an_idle_pooler(mode: str, round_robin: str) -> None:
    with pgbouncer(mode, server_round_robin=round_robin) as pooler:
        assert {found(pooler.url) for _ in range(20)} == {Pooling(mode)}


@pytest.mark.parametrize("round_robin", ["0", "1"])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_pool_of_idle_sessions(size: int, round_robin: str) -> None:
    """Such a pool may give two clients two sessions in turn, as if each had one of its own."""
    with (
        pgbouncer("transaction", server_round_robin=round_robin, default_pool_size=str(size)) as pooler,
        ExitStack() as others,
    ):
        for _ in range(size):
            other = others.enter_context(psycopg.connect(pooler.url, autocommit=True))
            other.execute("BEGIN")
        others.pop_all().close()
        assert {found(pooler.url) for _ in range(20)} == {Pooling.TRANSACTION}


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pool_of_one(mode: str) -> None:
    with pgbouncer(mode, default_pool_size="1") as pooler:
        assert {found(pooler.url) for _ in range(20)} == {Pooling(mode)}
        with traffic(pooler.url, clients=2):
            assert {found(pooler.url) for _ in range(20)} == {Pooling(mode)}


@pytest.mark.parametrize("round_robin", ["0", "1"])
@pytest.mark.parametrize(("size", "clients"), [(2, 2), (2, 4), (5, 6), (5, 3)])
def test_a_busy_pool(size: int, clients: int, round_robin: str) -> None:
    options = {"server_round_robin": round_robin, "default_pool_size": str(size)}
    with pgbouncer("transaction", **options) as pooler, traffic(pooler.url, clients=clients):
        assert {found(pooler.url) for _ in range(20)} == {Pooling.TRANSACTION}


def test_a_busy_pool_in_session_mode() -> None:
    with pgbouncer("session") as pooler, traffic(pooler.url, clients=4):
        assert {found(pooler.url) for _ in range(20)} == {Pooling.SESSION}


def test_a_pool_in_session_mode_without_room_for_the_question() -> None:
    """It is not known then, which is safe, and asked again at the next connection."""
    known: dict[str, Pooling] = {}
    with pgbouncer("session", default_pool_size="1") as pooler:
        connect = partial(psycopg.connect, pooler.url, autocommit=True)
        with connect() as connection:
            began = time.monotonic()
            assert find_pooling(connection, connect, known=known) is Pooling.UNKNOWN
            assert time.monotonic() - began < SECONDS
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert known == {}
    assert Pooling.UNKNOWN.shares_sessions


def test_a_pooler_without_room_for_another_client() -> None:
    with pgbouncer("session", max_client_conn="1") as pooler:
        assert found(pooler.url) is Pooling.UNKNOWN


def test_it_is_asked_once_and_closes_what_it_opens() -> None:
    opened: list[psycopg.Connection] = []
    known: dict[str, Pooling] = {}
    with pgbouncer("session") as pooler:

        def connect(**options: int) -> psycopg.Connection:
            opened.append(psycopg.connect(pooler.url, autocommit=True, **options))  # type: ignore[arg-type]
            return opened[-1]

        for _ in range(3):
            with psycopg.connect(pooler.url, autocommit=True) as connection:
                assert find_pooling(connection, connect, known=known) is Pooling.SESSION
    assert [connection.closed for connection in opened] == [True]


def test_another_database_behind_the_same_pooler_is_asked_for_itself() -> None:
    known: dict[str, Pooling] = {}
    with pgbouncer("session") as one, pgbouncer("transaction") as other:
        for pooler, mode in [(one, Pooling.SESSION), (other, Pooling.TRANSACTION)]:
            connect: Callable[..., psycopg.Connection] = partial(psycopg.connect, pooler.url, autocommit=True)
            with connect() as connection:
                assert find_pooling(connection, connect, known=known) is mode
    assert len(known) == 2
