"""A Redis that is away, hangs, or breaks off fails no request, and holds it up once at the most."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from celery import current_app
from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from pytest_django import Settings
from redis.exceptions import RedisError
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from devstack.processes import wait_until
from jobs.models import Job
from limits import counts
from limits.counts import Circuit
from limits.rates import count, longest_wait
from limits.stores import OwnCounts
from tenants.models import Tenant
from tests.people import PASSWORD, add_user, at_once, client_of

ORDER = {
    "currency": "EUR",
    "payment_token": "tok_ok",
    "lines": [{"description": "Tea", "quantity": 2, "unit_amount": 1250}],
}
# Linger for no time: close() resets the connection.
RESET = struct.pack("ii", 1, 0)


def refuse() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


def hang() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def break_off() -> Iterator[int]:
    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=[refuse, hang, break_off], ids=lambda sickness: sickness.__name__)
def sick_redis(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cache and broker are at a port where nothing good happens, and everybody is throttled."""
    sickness = request.param()
    url = f"redis://127.0.0.1:{next(sickness)}/0"
    settings.CACHES = {alias: {**cache, "LOCATION": url} for alias, cache in settings.CACHES.items()}
    monkeypatch.setattr(current_app.conf, "broker_write_url", url)
    rates = dict.fromkeys(SimpleRateThrottle.THROTTLE_RATES, "1000/day")
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", rates)
    settings.CACHE_URL = url
    monkeypatch.setattr(counts, "circuit", Circuit())
    monkeypatch.setattr(counts, "own", OwnCounts())
    yield
    sickness.close()


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The thread of each connection to Redis that was begun."""
    threads: list[str] = []
    connect: Any = redis.Connection._connect

    def counted(self: Any) -> Any:
        threads.append(threading.current_thread().name)
        return connect(self)

    monkeypatch.setattr(redis.Connection, "_connect", counted)
    return threads


@pytest.fixture
def as_ada(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


@pytest.fixture
def ask() -> Callable[[], bool]:
    """Counts for a new address."""

    def ask() -> bool:
        return longest_wait(count({"address": str(time.time_ns())})) is None

    return ask


@pytest.mark.usefixtures("sick_redis")
def test_requests_succeed_and_one_of_them_asks_redis(as_ada: APIClient, attempts: list[str]) -> None:
    for n in range(5):
        body = {"email": f"bob{n}@acme.example", "full_name": "Bob", "password": PASSWORD, "role": "member"}
        assert as_ada.post("/api/v1/users/", body).status_code == 201
    assert Job.objects.count() == 5
    assert len(attempts) == 1


@pytest.mark.skipif(not apps.is_installed("billing"), reason="an order needs it")
@pytest.mark.usefixtures("sick_redis")
def test_orders_are_placed_and_one_of_them_asks_redis(as_ada: APIClient, attempts: list[str]) -> None:
    assert [as_ada.post("/api/v1/orders/", ORDER).status_code for _ in range(5)] == [201] * 5
    assert Job.objects.count() == 5
    assert len(attempts) == 1


@pytest.mark.usefixtures("sick_redis")
def test_readyz_is_ready_and_asks_relays_heartbeats_alone(db: None, attempts: list[str]) -> None:
    response = APIClient().get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "ready")
    assert attempts == []


@pytest.mark.usefixtures("sick_redis")
def test_one_line_of_the_log_tells(ask: Callable[[], bool], caplog: pytest.LogCaptureFixture) -> None:
    assert [ask() for _ in range(3)] == [True] * 3
    assert len([record for record in caplog.records if "counts for itself" in record.message]) == 1


@pytest.mark.usefixtures("sick_redis")
def test_after_the_first_no_request_waits_for_a_cache_that_is_away(
    ask: Callable[[], bool], attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "LOOK_SECONDS", 0.01)
    ask()
    wait_until(lambda: attempts.count("redis look-out") >= 2, seconds=30, what="it is looked for")
    assert at_once(*[ask] * 8) == [True] * 8
    assert attempts.count("redis look-out") == len(attempts) - 1


def test_when_redis_is_back_throttles_count_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"address": "1/day"})
    circuit = Circuit()
    monkeypatch.setattr(counts, "circuit", circuit)
    monkeypatch.setattr(counts, "LOOK_SECONDS", 0.01)
    circuit.open(RedisError("away"))
    # The look-outs of earlier tests may write the same line.
    wait_until(lambda: circuit.closed and "count together again" in caplog.text, seconds=30, what="Redis is back")
    address = str(time.time_ns())
    assert [longest_wait(count({"address": address})) is None for _ in range(2)] == [True, False]
    assert not counts.own.has(f"address:86400:{address}")


def test_neither_cache_nor_counts_wait_for_long_and_both_try_once() -> None:
    cache: Any = caches["shared"]
    of_counts = redis.Redis.from_url(settings.CACHE_URL, **settings.REDIS_OPTIONS)
    for client in (cache._cache.get_client(), of_counts):
        connection: Any = client.connection_pool.make_connection()
        assert connection.retry.get_retries() == 0
        assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.5, 0.5)


# While it is away, each process counts for itself


@pytest.mark.usefixtures("sick_redis")
def test_limits_hold(acme: Tenant, as_ada: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"address": "2/day", "user": "3/day"}
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", rates)
    stranger = APIClient(headers={"host": "acme.localhost"}, REMOTE_ADDR="192.0.2.8")
    answers = [stranger.get("/api/v1/users/me/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert [answer["RateLimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
    assert [as_ada.get("/api/v1/users/me/").status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.usefixtures("sick_redis")
def test_passwords_cannot_be_guessed(acme: Tenant, as_ada: APIClient, settings: Settings) -> None:
    settings.LOGIN_TRIES, settings.LOGIN_MAX_WAIT = 2, 3600
    wrong = {"email": "ada@acme.example", "password": "wrong"}
    client = APIClient(headers={"host": "acme.localhost"})
    tries = [client.post("/api/v1/tokens/", wrong, REMOTE_ADDR=f"192.0.2.{n}") for n in range(30)]
    assert [answer.status_code for answer in tries[:2]] == [401, 401]
    assert sum(answer.status_code == 429 for answer in tries) > 15


@pytest.mark.usefixtures("sick_redis")
def test_memory_does_not_grow(ask: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnCounts(room=100)
    monkeypatch.setattr(counts, "own", own)
    assert all(ask() for _ in range(1000))
    assert len(own) == 100
