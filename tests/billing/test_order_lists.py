"""Orders and invoices in lists: what finds them, how they name each other, and what a change of one changes."""

import sys
from typing import Any

import pytest
from django.db import transaction
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from billing import tasks
from billing.models import Invoice, Order
from tenants.ids import new_id
from tenants.models import Tenant
from tests.billing.conftest import place_order
from tests.billing.test_orders_api import ORDER
from tests.people import add_user, client_of


@pytest.fixture
def client(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


def test_orders_and_invoices_are_found_by_user_and_number(client: APIClient, acme: Tenant) -> None:
    bob, cat = add_user(acme, "bob"), add_user(acme, "cat")
    orders = [place_order(acme, user) for user in (bob, cat)]
    with tenant_context(acme), transaction.atomic():
        for order in orders:
            tasks.bill_order(str(order.pk))
        numbers = list(Invoice.objects.order_by("id").values_list("number", flat=True))

    def found(path: str, field: str) -> list[str]:
        return [row[field] for row in client.get(f"/api/v1/{path}").json()["results"]]

    assert found(f"orders/?placed_by={bob.pk}", "id") == [str(orders[0].pk)]
    assert found(f"invoices/?placed_by={cat.pk}", "number") == numbers[1:]
    assert found(f"invoices/?number={numbers[0]}", "order") == [str(orders[0].pk)]
    assert found("invoices/?number=INV", "order") == []
    assert found(f"orders/?placed_by={new_id()}", "id") == []
    assert client.get("/api/v1/orders/?placed_by=bob").status_code == 400


def test_an_order_names_its_invoice_and_changes_with_it(client: APIClient, acme: Tenant) -> None:
    order = place_order(acme, add_user(acme, "bob"))
    url = f"/api/v1/orders/{order.pk}/"
    before = client.get(url).json()
    assert before["invoice"] is None
    with tenant_context(acme), transaction.atomic():
        tasks.bill_order(str(order.pk))
    after = client.get(url).json()
    invoice = client.get(f"/api/v1/invoices/{after['invoice']}/").json()
    assert invoice["order"] == after["id"]
    assert after["updated_at"] > before["updated_at"]
    [listed] = client.get(f"/api/v1/orders/?updated_after={after['updated_at']}").json()["results"]
    assert listed == after


def test_a_list_of_billed_orders_takes_as_many_queries_as_of_one(
    client: APIClient, acme: Tenant, django_assert_max_num_queries: Any
) -> None:
    bob = add_user(acme, "bob")
    orders = [place_order(acme, bob) for _ in range(4)]
    with tenant_context(acme), transaction.atomic():
        for order in orders:
            tasks.bill_order(str(order.pk))
        assert Order.objects.exclude(invoice=None).count() == 4
    # Tenant, token, synced_until, orders, lines
    with django_assert_max_num_queries(5):
        assert all(order["invoice"] for order in client.get("/api/v1/orders/").json()["results"])


def test_a_new_order_has_its_address(client: APIClient) -> None:
    made = client.post("/api/v1/orders/", ORDER, headers={"idempotency-key": "one"})
    assert made.status_code == 201
    assert made["Location"] == f"http://acme.localhost/api/v1/orders/{made.json()['id']}/"
    assert client.get(made["Location"]).json() == made.json()
    again = client.post("/api/v1/orders/", ORDER, headers={"idempotency-key": "one"})
    assert again["Location"] == made["Location"]


def test_its_id_is_read_in_capitals_too(client: APIClient) -> None:
    order = client.post("/api/v1/orders/", ORDER).json()
    assert client.get(f"/api/v1/orders/{order['id'].upper()}/").json() == order
    assert client.get(f"/api/v1/invoices/{order['id'].upper()}/").status_code == 404


@pytest.mark.parametrize("path", ["orders/", "invoices/"])
def test_a_list_that_a_client_has_is_not_sent_again(client: APIClient, acme: Tenant, path: str) -> None:
    url = f"/api/v1/{path}"
    order = place_order(acme, add_user(acme, "bob"))
    etag = client.get(url)["ETag"]
    assert client.get(url, headers={"if-none-match": etag}).status_code == 304
    with tenant_context(acme), transaction.atomic():
        tasks.bill_order(str(order.pk))
    assert client.get(url, headers={"if-none-match": etag}).status_code == 200


def lines(count: int) -> list[dict[str, Any]]:
    """The first is dear: its amount is more than 32 bits."""
    amounts = [10**12, *range(2, count + 1)]
    return [{"description": f"Tea {n}", "quantity": n, "unit_amount": amount} for n, amount in enumerate(amounts, 1)]


def listed_calls(client: APIClient) -> int:
    """How many functions of Python a list of orders takes."""
    calls = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(profile)
    try:
        answer = client.get("/api/v1/orders/?page_size=200")
    finally:
        sys.setprofile(None)
    assert answer.status_code == 200
    return calls


def test_a_line_of_a_listed_order_costs_little(client: APIClient) -> None:
    """200 orders of 100 lines took two seconds, by a serializer for each line and a field for each of its values."""
    for _ in range(3):
        assert client.post("/api/v1/orders/", {**ORDER, "lines": lines(1)}).status_code == 201
    client.get("/api/v1/orders/")
    few = listed_calls(client)
    assert client.post("/api/v1/orders/", {**ORDER, "lines": lines(100)}).status_code == 201
    many = listed_calls(client)
    assert (many - few) / 100 < 3


def test_lines_are_shown_as_they_were_sent(client: APIClient) -> None:
    sent = lines(100)
    placed = client.post("/api/v1/orders/", {**ORDER, "lines": sent}).json()
    assert placed["lines"] == sent
    assert client.get(f"/api/v1/orders/{placed['id']}/").json() == placed
    assert client.get("/api/v1/orders/").json()["results"] == [placed]
