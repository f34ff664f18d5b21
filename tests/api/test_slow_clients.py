"""A slow client costs its own connection, with nothing in front of web, and a deploy costs nobody an answer."""

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from django.apps import apps
from django.db import connection, transaction
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from pytest_django import Settings

from config.bodies import MAX_BYTES
from devstack.ports import answers, free_port
from devstack.processes import Process, wait_until
from tenants.models import Tenant
from tests.jobs.durables import sql
from tests.people import PASSWORD, add_user, await_blocked
from tests.slow_clients import A_BYTE_A_SECOND, HALF_A_BODY, HALF_A_HEADER, LOG_IN, OTHERS, Crowd

pytestmark = [
    pytest.mark.usefixtures("committed_db"),
    pytest.mark.skipif(not apps.is_installed("billing"), reason="an order needs it"),
]

# How long a request may take to arrive here, in seconds
REQUEST_SECONDS = 8
# No request waits for as long, unless it waits for a slow client.
PATIENCE = 10
MOST_SESSIONS = 4
ORDER = {
    "currency": "EUR",
    "payment_token": "tok_ok",
    "lines": [{"description": "Tea", "quantity": 1, "unit_amount": 1}],
}
ORDERS = b"POST /api/v1/orders/ HTTP/1.1\r\nHost: acme.localhost\r\nContent-Type: application/json\r\n"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'slow clients'"
LARGE_FILE = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"


class Web:
    """The Procfile's web, and what a client asks of it."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.token = ""

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        headers = {
            "Host": "acme.localhost",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
        }
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, headers=headers, timeout=PATIENCE, trust_env=False, **options)  # type: ignore[arg-type]  # of httpx alone

    def order(self) -> int:
        return self.ask("POST", "/api/v1/orders/", json=ORDER).status_code

    def log_in(self) -> int:
        return self.ask("POST", "/api/v1/tokens/", json={"email": "ada@acme.example", "password": PASSWORD}).status_code

    def send_order(self) -> socket.socket:
        """Send an order, whose answer is still to be read."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        client.sendall(self.order_bytes())
        return client

    def order_bytes(self) -> bytes:
        body = json.dumps(ORDER).encode()
        return ORDERS + f"Authorization: Bearer {self.token}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


Start = Callable[..., AbstractContextManager[Web]]


@pytest.fixture
def start(acme: Tenant, settings: Settings, tmp_path: Path) -> Start:
    """Starts web with two processes, and logs Ada of acme in."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    with tenant_context(acme):
        _, token = AuthToken.objects.create(user=add_user(acme, "ada"))

    @contextmanager
    def start(*options: str, **environ: str) -> Iterator[Web]:
        port = free_port()
        policies = ("ADDRESS", "USER", "TENANT", "LOGIN")
        rates = {f"THROTTLE_{policy}": "100000/s" for policy in policies}
        env = {
            **os.environ,
            "PGAPPNAME": "slow clients",
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port}",
            **rates,
            **environ,
        }
        process = Process.from_procfile("web", log=tmp_path / "web.log", env=env, ready=lambda: _is_live(port))
        with process:
            web = Web(process, port)
            web.token = token
            yield web

    return start


@pytest.fixture
def web(start: Start) -> Iterator[Web]:
    limits = {"WEB_REQUEST_SECONDS": str(REQUEST_SECONDS), "WEB_DB_CONNECTIONS": str(MOST_SESSIONS)}
    with start(**limits) as web:
        yield web


def _is_live(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def assert_serves(web: Web) -> None:
    """Orders and log-ins, with no more database sessions than are allowed."""
    assert web.ask("GET", "/livez").status_code == 200
    assert web.order() == 201
    assert web.log_in() == 201
    [[sessions]] = sql(SESSIONS)
    assert 0 < sessions <= MOST_SESSIONS


# While there are slow clients


def test_slow_clients_cost_their_own_connections(web: Web) -> None:
    clients = [*200 * [HALF_A_HEADER], *200 * [HALF_A_BODY], *200 * [A_BYTE_A_SECOND], *(20 * OTHERS)]
    with Crowd(web.port, clients) as crowd:
        assert_serves(web)
        while not crowd.is_over:
            assert_serves(web)
        assert len(crowd.lives()) == len(clients)


def test_whose_body_does_not_come_is_told_so(web: Web) -> None:
    for begins in (HALF_A_BODY.begins, OTHERS[2].begins):
        with socket.create_connection(("127.0.0.1", web.port), timeout=60) as client:
            client.sendall(begins)
            answer = _read(client)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Content-Type: application/problem+json" in answer
        assert b'"code": "request_timeout"' in answer


def test_who_does_not_read_costs_nobody_else(web: Web) -> None:
    ask = f"GET {LARGE_FILE} HTTP/1.1\r\nHost: acme.localhost\r\n\r\n".encode()
    size = len(web.ask("GET", LARGE_FILE).content)
    began = time.monotonic()
    with ExitStack() as clients:
        deaf = [clients.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=60)) for _ in range(20)]
        for client in deaf:
            client.sendall(20 * ask)
        while time.monotonic() < began + 2 * REQUEST_SECONDS:
            assert_serves(web)
        # They have been given up: the rest of their answers is never sent.
        assert all(len(_read(client)) < 20 * size for client in deaf)


def test_who_keeps_connections_without_a_request_leaves_room_for_others(start: Start) -> None:
    ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with start("--worker-connections=20", WEB_DB_CONNECTIONS=str(MOST_SESSIONS)) as web, ExitStack() as clients:
        for _ in range(100):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=60))
            client.sendall(ask)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert_serves(web)


def test_a_refusal_arrives_whatever_the_client_goes_on_to_send(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as client:
        client.sendall(LOG_IN + b"Content-Length: 20000000\r\n\r\n")
        client.sendall(b" " * 20_000_000)
        assert _read(client).startswith(b"HTTP/1.1 413 ")


def test_the_largest_body_is_read_whole(web: Web) -> None:
    spaces = b" " * (MAX_BYTES - len(json.dumps(ORDER)))
    content = json.dumps(ORDER).encode() + spaces
    assert web.ask("POST", "/api/v1/orders/", content=content).status_code == 201


def test_a_slow_request_that_ends_in_time_is_answered(web: Web) -> None:
    request = web.order_bytes()
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(request)):
            client.sendall(request[place : place + 1])
        client.shutdown(socket.SHUT_WR)
        assert _read(client).startswith(b"HTTP/1.1 201 ")


def test_requests_that_come_at_once_on_a_connection_are_answered_in_turn(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as client:
        client.sendall(3 * web.order_bytes())
        client.shutdown(socket.SHUT_WR)
        assert _read(client).count(b"HTTP/1.1 201 ") == 3


def test_a_request_whose_client_has_reset_the_connection_is_dropped(start: Start, acme: Tenant) -> None:
    limits = {"REQUEST_LOCK_SECONDS": "60", "REQUEST_STATEMENT_SECONDS": "60"}
    with start(WEB_DB_CONNECTIONS="1", **limits) as web, ExitStack() as clients:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f'LOCK TABLE "{acme.schema_name}".billing_orderline IN SHARE MODE')
            first = clients.enter_context(web.send_order())
            await_blocked()
            for sent in (web.order_bytes(), 2 * web.order_bytes()):  # one may leave bytes that nobody has read
                gone = socket.create_connection(("127.0.0.1", web.port), timeout=60)
                gone.sendall(sent)
                # What it sent is waiting for the thread: a later client has its answer.
                assert web.ask("GET", "/livez").status_code == 200
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.close()
            last = clients.enter_context(web.send_order())
            for client in (first, last):  # who has ended their side still reads
                client.shutdown(socket.SHUT_WR)
        assert [_read(client)[:13] for client in (first, last)] == [b"HTTP/1.1 201 "] * 2
        assert "reset" not in web.process.output
    with tenant_context(acme):
        assert sql("SELECT count(*) FROM billing_order") == [(2,)]


# While web stops


def test_what_was_sent_before_a_deploy_is_answered(start: Start, acme: Tenant) -> None:
    with (
        start(WEB_DB_CONNECTIONS="2", REQUEST_LOCK_SECONDS="60", REQUEST_STATEMENT_SECONDS="60") as web,
        ExitStack() as clients,
    ):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f'LOCK TABLE "{acme.schema_name}".billing_orderline IN SHARE MODE')
            waiting = [clients.enter_context(web.send_order()) for _ in range(6)]
            await_blocked()
            begun = clients.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=60))
            request = web.order_bytes()
            begun.sendall(request[:-10])

            web.process.signal(signal.SIGTERM)
            wait_until(lambda: not answers(web.port), seconds=20, what="a web that takes no more connections")
            begun.sendall(request[-10:])

        assert [_read(client)[:13] for client in [*waiting, begun]] == [b"HTTP/1.1 201 "] * 7
        wait_until(lambda: not web.process.running, seconds=20, what="the end of web")
        assert web.process.returncode == 0


def test_who_sends_nothing_does_not_hold_up_a_deploy(start: Start) -> None:
    with start() as web, httpx.Client(base_url=f"http://127.0.0.1:{web.port}", trust_env=False) as client:
        assert client.get("/livez").status_code == 200  # its connection is kept
        web.process.signal(signal.SIGTERM)
        wait_until(lambda: not web.process.running, seconds=20, what="the end of web")


def _read(client: socket.socket) -> bytes:
    """To the end, or a reset."""
    received = b""
    try:
        while block := client.recv(65536):
            received += block
    except ConnectionError:
        return received
    return received
