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
from django.core.cache import caches
from django.test import RequestFactory
from pytest_django import Settings
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from config import throttles
from config.throttles import AnonThrottle, Circuit
from devstack.processes import wait_until
from jobs.models import Job
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
    monkeypatch.setattr(throttles, "circuit", Circuit())
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
    """Passes a throttle, from a new address."""

    def ask() -> bool:
        return AnonThrottle().allow_request(Request(RequestFactory().get("/", REMOTE_ADDR=str(time.time_ns()))), None)

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
    assert len([record for record in caplog.records if "nobody is throttled" in record.message]) == 1


@pytest.mark.usefixtures("sick_redis")
def test_after_the_first_no_request_waits_for_a_cache_that_is_away(
    ask: Callable[[], bool], attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttles, "LOOK_SECONDS", 0.01)
    ask()
    wait_until(lambda: attempts.count("cache look-out") >= 2, seconds=10, what="it is looked for")
    assert at_once(*[ask] * 8) == [True] * 8
    assert attempts.count("cache look-out") == len(attempts) - 1


def test_when_redis_is_back_throttles_count_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"anon": "1/day"})
    circuit = Circuit()
    monkeypatch.setattr(throttles, "circuit", circuit)
    monkeypatch.setattr(throttles, "LOOK_SECONDS", 0.01)
    circuit.open(RedisError("away"))
    # The look-outs of earlier tests may write the same line.
    wait_until(lambda: circuit.closed and "throttles count again" in caplog.text, seconds=10, what="the cache is back")
    request = Request(RequestFactory().get("/", REMOTE_ADDR=str(time.time_ns())))
    assert [AnonThrottle().allow_request(request, None) for _ in range(2)] == [True, False]


def test_the_cache_gives_up_quickly_and_tries_once() -> None:
    cache: Any = caches["shared"]
    connection = cache._cache.get_client().connection_pool.make_connection()
    assert connection.retry.get_retries() == 0
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.5, 0.5)
