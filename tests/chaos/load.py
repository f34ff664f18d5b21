"""The load: orders and probes of all tenants over HTTP, at random moments, from a few threads.

An order whose answer is lost is placed again, with the same Idempotency-Key, as a careful client does.
"""

import queue
import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import httpx

from tests.chaos.tenants import Tenant
from tests.chaos.world import World

SENDERS = 3
TIMEOUT = 10
TRIES = 20
PAUSE = 0.5
CONFLICT = 409
ORDERS = "api/v1/orders/"
ORDER = {"currency": "EUR", "payment_token": "tok_ok"}
# Of each tenant, for each number of probes that the pace names.
PROBES: tuple[dict[str, Any], ...] = (
    {"probe": "effect", "kwargs": {"seconds": 0.1}},
    {"probe": "call", "kwargs": {"seconds": 0.1}},
    {"probe": "effect", "countdown": 1.5},
    {"probe": "flaky"},
    {"probe": "effect", "roll_back": True},
)


@dataclass(frozen=True)
class Request:
    at: float
    tenant: Tenant
    path: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The last one; `seconds` are the slowest's. `status` is None where none came: the job may exist or not."""

    request: Request
    status: int | None
    seconds: float
    body: dict[str, Any] = field(default_factory=dict)
    tries: int = 1

    @property
    def is_final(self) -> bool:
        return self.status is not None and self.status < 500 and self.status != CONFLICT

    @property
    def created(self) -> bool:
        return self.status == 201


class Load:
    """Starts with the `with` block; at its end it has been placed in full, or the clients have lost their patience."""

    def __init__(self, world: World, requests: Sequence[Request]) -> None:
        self.answers: list[Answer] = []
        self._port = world.port
        self._patience = max((request.at for request in requests), default=0) + world.pace.placing
        self._pending: queue.Queue[Request] = queue.Queue()
        for request in sorted(requests, key=lambda request: request.at):
            self._pending.put(request)
        self._threads = [threading.Thread(target=self._send_all, daemon=True) for _ in range(SENDERS)]

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def created(self) -> int:
        return sum(answer.created for answer in self.answers)

    def _send_all(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}/", timeout=TIMEOUT, trust_env=False) as http:
            while True:
                try:
                    request = self._pending.get_nowait()
                except queue.Empty:
                    return
                time.sleep(max(0.0, self._started + request.at - time.monotonic()))
                if not self._over():
                    self.answers.append(self._send(http, request))

    def _send(self, http: httpx.Client, request: Request) -> Answer:
        headers = {"Host": f"{request.tenant.slug}.localhost", "Authorization": f"Bearer {request.tenant.token}"}
        headers["Idempotency-Key"] = str(uuid.uuid4())
        answer = _post(http, request, headers)
        while not answer.is_final and answer.tries < (TRIES if request.path == ORDERS else 1) and not self._over():
            time.sleep(PAUSE)
            again = _post(http, request, headers)
            answer = replace(again, tries=answer.tries + 1, seconds=max(again.seconds, answer.seconds))
        return answer

    def _over(self) -> bool:
        return time.monotonic() > self._started + self._patience


def _post(http: httpx.Client, request: Request, headers: dict[str, str]) -> Answer:
    began = time.monotonic()
    try:
        response = http.post(request.path, json=request.body, headers=headers)
    except httpx.HTTPError:
        return Answer(request, None, time.monotonic() - began)
    body = response.json() if response.status_code == 201 else {}
    return Answer(request, response.status_code, time.monotonic() - began, body)


def plan(tenants: Sequence[Tenant], chance: random.Random, *, orders: int, probes: int, spread: float) -> list[Request]:
    """So many orders, and probes of each kind, for each tenant, at random moments within `spread` seconds."""
    requests = []
    for tenant in tenants:
        for _ in range(orders):
            requests.append(Request(chance.uniform(0, spread), tenant, ORDERS, order_of(tenant)))
        for body in probes * PROBES:
            requests.append(Request(chance.uniform(0, spread), tenant, "chaos/", body))
    return requests


def order_of(tenant: Tenant) -> dict[str, Any]:
    """Its line says whose it is, and which."""
    description = f"{tenant.slug} {uuid.uuid4()}"
    return {**ORDER, "lines": [{"description": description, "quantity": 1, "unit_amount": 1234}]}
