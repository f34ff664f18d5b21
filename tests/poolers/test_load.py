"""Three tenants at once behind a pooler, with bodies that leave everything behind that a session can hold."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from django_tenants.utils import tenant_context
from knox.models import AuthToken

from devstack.processes import wait_until
from tenants.models import Tenant
from tests.people import add_user
from tests.poolers import messes
from tests.poolers.conftest import Product, Start
from tests.poolers.pgbouncer import Pooler, pgbouncer

pytestmark = [pytest.mark.needs("pgbouncer"), pytest.mark.usefixtures("committed_db")]

# A body of each task, with each mess that it can leave
BODIES = [
    # An atomic body that changes its role takes it to its own completion, which may not do its work then.
    *itertools.product([messes.leaves.delay_on_commit], [mess for mess in messes.MESSES if mess != "a role"]),
    *itertools.product([messes.leaves.delay, messes.fails_and_leaves.delay], messes.MESSES),
    *itertools.product([messes.leaves_open.delay_on_commit], [*messes.MESSES, messes.OPEN_TRANSACTION]),
    *itertools.product([messes.leaves_open_plainly.delay], [messes.OPEN_TRANSACTION]),
]


TROUBLE = re.compile(r'"level": "(?:error|critical)".*|"status": 5\d\d.*|Traceback.*|\[(?:ERROR|CRITICAL)\].*')


class Client:
    """A user of one tenant, over HTTP, who believes no answer."""

    def __init__(self, tenant: Tenant, port: int) -> None:
        self.slug = tenant.slug
        user = add_user(tenant, "ada")
        with tenant_context(tenant):
            _, secret = AuthToken.objects.create(user=user)
        headers = {"Host": f"{tenant.slug}.localhost", "Authorization": f"Bearer {secret}"}
        url = f"http://127.0.0.1:{port}/api/v1/"
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)

    def order(self) -> str:
        line = {"description": f"Tea for {self.slug}", "quantity": 2, "unit_amount": 1250}
        answer = self._http.post("orders/", json={"currency": "EUR", "payment_token": "tok_ok", "lines": [line]})
        assert answer.status_code == 201, answer.text[:500]
        return str(answer.json()["id"])

    def read(self) -> None:
        orders = self._http.get("orders/")
        assert orders.status_code == 200, orders.text[:500]
        described = {line["description"] for order in orders.json()["results"] for line in order["lines"]}
        assert described <= {f"Tea for {self.slug}"}
        users = self._http.get("users/")
        assert users.status_code == 200, users.text[:500]
        assert [user["email"] for user in users.json()["results"]] == [f"ada@{self.slug}.example"]


@pytest.fixture
def transaction_mode() -> Iterator[Pooler]:
    with pgbouncer("transaction", default_pool_size="5") as pooler:
        yield pooler


@pytest.fixture
def session_mode() -> Iterator[Pooler]:
    with pgbouncer("session") as pooler:
        yield pooler


def test_nothing_crosses_in_transaction_mode(
    acme: Tenant, globex: Tenant, initech: Tenant, transaction_mode: Pooler, product: Start
) -> None:
    with product(transaction_mode) as running:
        assert_nothing_crosses([acme, globex, initech], running, rounds=35)
    assert "no more connections" not in transaction_mode.log


def test_nothing_crosses_in_session_mode(
    acme: Tenant, globex: Tenant, initech: Tenant, session_mode: Pooler, product: Start
) -> None:
    with product(session_mode) as running:
        assert_nothing_crosses([acme, globex, initech], running, rounds=10)


def assert_nothing_crosses(tenants: list[Tenant], product: Product, *, rounds: int) -> None:
    """In each round, each tenant places an order, reads twice, and dispatches two bodies."""
    clients = [Client(tenant, product.port) for tenant in tenants]
    placed: dict[str, list[str]] = {tenant.slug: [] for tenant in tenants}
    names: dict[str, list[str]] = {tenant.schema_name: [] for tenant in tenants}
    bodies = itertools.cycle(BODIES)

    with ThreadPoolExecutor(6) as pool:
        orders, reads = [], []
        for number in range(rounds):
            for tenant, client in zip(tenants, clients, strict=True):
                orders.append((tenant.slug, pool.submit(client.order)))
                reads.append(pool.submit(client.read))
                for part in "ab":
                    dispatch, mess = next(bodies)
                    name = f"{tenant.slug} {number}{part}"
                    names[tenant.schema_name].append(name)
                    with tenant_context(tenant):
                        dispatch(mess, name)
        for slug, order in orders:
            placed[slug].append(order.result())
        for read in reads:
            read.result()
    for client in clients:
        client.read()

    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
        wait_until(lambda: is_done(session, names), seconds=60, what="all jobs done")
        assert [failures(session, schema) for schema in ("public", *names)] == [[]] * 4
        for tenant in tenants:
            assert groups(session, tenant.schema_name) == sorted(names[tenant.schema_name])
            assert paid(session, tenant.schema_name) == sorted(placed[tenant.slug])
        wait_until(lambda: not locks(session), seconds=20, what="no lock is left")
    charges = [call["tenant"] for call in product.cards.calls(None) if call["outcome"] == "charged"]
    assert Counter(charges) == {slug: len(orders) for slug, orders in placed.items()}
    assert TROUBLE.findall(product.logs()) == []


def is_done(session: psycopg.Connection, names: dict[str, list[str]]) -> bool:
    """Whether all have ended, well or not."""
    waiting = column(session, "SELECT count(*) FROM public.jobs_job WHERE state = 'waiting'") != [0]
    return not waiting and all(
        len(groups(session, schema)) + len(failures(session, schema)) >= len(names[schema]) for schema in names
    )


def groups(session: psycopg.Connection, schema: str) -> list[str]:
    return column(session, f'SELECT name FROM "{schema}".auth_group ORDER BY name COLLATE "C"')


def paid(session: psycopg.Connection, schema: str) -> list[str]:
    """The orders that were paid, one for each payment."""
    return column(
        session,
        f"""
        SELECT invoice.order_id::text FROM "{schema}".billing_payment payment
        JOIN "{schema}".billing_invoice invoice ON invoice.id = payment.invoice_id
        WHERE payment.status = 'succeeded' AND invoice.status = 'paid' ORDER BY 1
        """,
    )


def failures(session: psycopg.Connection, schema: str) -> list[str]:
    return column(
        session,
        f"""
        SELECT concat_ws(' ', task_name, status, result) FROM "{schema}".django_celery_results_taskresult
        WHERE status <> 'SUCCESS'
        """,
    )


def locks(session: psycopg.Connection) -> list[int]:
    return column(session, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 42")


def column(session: psycopg.Connection, query: str) -> list[Any]:
    return [value for (value,) in session.execute(query.encode()).fetchall()]
