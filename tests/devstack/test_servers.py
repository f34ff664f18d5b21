import os
from collections.abc import Callable

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack.postgres import Postgres
from devstack.processes import is_running
from devstack.servers import Stack
from devstack.valkey import Valkey

STOPS: list[Callable[[Postgres | Valkey], None]] = [lambda server: server.stop(), lambda server: server.kill()]


@pytest.mark.parametrize("end", STOPS, ids=["stop", "kill"])
def test_postgresql_keeps_what_was_committed_and_its_address(stack: Stack, end: Callable[[Postgres], None]) -> None:
    postgres = stack.postgres
    assert postgres
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    pid, url = postgres.pid, postgres.url()
    end(postgres)
    assert not is_running(pid)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    postgres.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


@pytest.mark.parametrize("end", STOPS, ids=["stop", "kill"])
def test_valkey_keeps_its_keys_and_its_address(stack: Stack, end: Callable[[Valkey], None]) -> None:
    valkey = stack.valkey
    assert valkey
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "42")
        client.execute_command("WAITAOF", 1, 0, 5000)
    pid = valkey.pid
    end(valkey)
    assert not is_running(pid)
    valkey.start()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"42"


def test_postgresql_is_durable_and_reached_by_loopback_and_password_only(stack: Stack) -> None:
    assert stack.postgres
    with psycopg.connect(stack.postgres.url()) as connection:
        names = ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "unix_socket_directories")
        settings = [connection.execute(f"SHOW {name}").fetchone() for name in names]
    assert settings == [("on",), ("on",), ("on",), ("127.0.0.1",), ("",)]
    wrong = stack.postgres.url().replace("tenantry:", "tenantry:x")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_valkey_asks_for_its_password(stack: Stack) -> None:
    assert stack.valkey
    with (
        redis.Redis(port=stack.valkey.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_postgresql_starts_though_a_pid_file_names_a_stranger(stack: Stack) -> None:
    """As after a reboot, when another program has got the pid."""
    assert stack.postgres
    stack.postgres.stop()
    pid_file = stack.postgres.data / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{stack.postgres.data}\n0\n{stack.postgres.port}\n\n\n\n")
    stack.postgres.start()
    assert stack.postgres.running
