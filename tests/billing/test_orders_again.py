"""An order that is sent again with its Idempotency-Key is one order, whatever became of the first time."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import transaction
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from rest_framework.test import APIClient

from billing.models import Order, OrderLine
from devstack.ports import free_port
from devstack.processes import Process, wait_until
from idempotency.models import KeptResponse
from jobs.models import Job
from tenants.connection import connection
from tenants.models import Tenant
from tests.people import add_user, await_blocked, client_of

TEA = {"description": "Tea", "quantity": 2, "unit_amount": 1250}
ORDER = {"currency": "EUR", "payment_token": "tok_secret", "lines": [TEA]}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def web(committed_db: None, port: int, tmp_path: Path) -> Iterator[Process]:
    """The Procfile's web."""
    env = {**os.environ, "PORT": str(port), "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port} --threads=4 --workers=1"}

    def is_live() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    with Process.from_procfile("web", log=tmp_path / "web.log", env=env, ready=is_live) as web:
        yield web


@pytest.fixture
def headers(acme: Tenant) -> dict[str, str]:
    with tenant_context(acme):
        _, secret = AuthToken.objects.create(user=add_user(acme, "ada"))
    return {"Host": "acme.localhost", "Authorization": f"Bearer {secret}", "Idempotency-Key": "tea for two"}


@pytest.fixture
def place(port: int, headers: dict[str, str]) -> Callable[[], httpx.Response]:
    def place() -> httpx.Response:
        url = f"http://127.0.0.1:{port}/api/v1/orders/"
        return httpx.post(url, json=ORDER, headers=headers, trust_env=False, timeout=30)

    return place


def send(port: int, headers: dict[str, str]) -> socket.socket:
    """Send the request, and leave its response unread."""
    body = json.dumps(ORDER).encode()
    head = {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = ["POST /api/v1/orders/ HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall("\r\n".join(lines).encode() + body)
    return client


def settled(place: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer when the first request does not run any more."""
    answers: list[httpx.Response] = []

    def has_settled() -> bool:
        answers.append(place())
        return answers[-1].status_code != 409

    wait_until(has_settled, seconds=30, what="the first request's end")
    assert {answer.json()["code"] for answer in answers[:-1]} <= {"request_in_progress"}
    return answers[-1]


def count(tenant: Tenant) -> tuple[int, ...]:
    with tenant_context(tenant):
        return tuple(model.objects.count() for model in (Order, OrderLine, KeptResponse, Job))


def test_a_response_that_was_lost(
    web: Process, acme: Tenant, port: int, headers: dict[str, str], place: Callable[[], httpx.Response]
) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f'LOCK TABLE "{acme.schema_name}".billing_orderline IN SHARE MODE')
        client = send(port, headers)
        await_blocked()
        client.close()  # before there is a response
    answer = settled(place)
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (201, "true")
    assert count(acme) == (1, 1, 1, 1)


def test_a_web_process_that_is_killed_before_it_commits(
    web: Process, acme: Tenant, port: int, headers: dict[str, str], place: Callable[[], httpx.Response]
) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f'LOCK TABLE "{acme.schema_name}".billing_orderline IN SHARE MODE')
        with send(port, headers):
            await_blocked()
            web.kill()
        # Its backend waits for us, and finds out only when it has the lock that its client is gone.
    web.start()
    answer = settled(place)
    assert answer.status_code == 201
    assert count(acme) == (1, 1, 1, 1)


def test_a_web_process_that_is_killed_after_it_committed(
    web: Process, acme: Tenant, place: Callable[[], httpx.Response]
) -> None:
    first = place()
    web.kill()
    web.start()
    again = place()
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert again.content == first.content
    assert count(acme) == (1, 1, 1, 1)


def test_neither_the_payment_token_nor_anything_else_of_the_body_is_kept(acme: Tenant) -> None:
    client: APIClient = client_of(acme, add_user(acme, "ada"))
    answers: list[Any] = [
        client.post("/api/v1/orders/", ORDER, headers={"idempotency-key": "tea for two"}) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert count(acme) == (1, 1, 1, 1)
    with tenant_context(acme):
        assert "tok_secret" not in str(vars(KeptResponse.objects.get()))
    other = client.post("/api/v1/orders/", {**ORDER, "currency": "JPY"}, headers={"idempotency-key": "tea for two"})
    assert other.status_code == 422


def test_a_key_is_for_one_address(acme: Tenant) -> None:
    client: APIClient = client_of(acme, add_user(acme, "ada", "owner"))
    headers = {"idempotency-key": "tea for two"}
    client.post("/api/v1/orders/", ORDER, headers=headers)
    assert client.post("/api/v1/users/", ORDER, headers=headers).status_code == 422
