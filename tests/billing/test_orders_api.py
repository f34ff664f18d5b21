import json
from collections.abc import Callable
from typing import Any

import pytest
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from billing.models import Order
from jobs.models import Job
from tenants.ids import new_id
from tenants.models import Tenant
from tests.billing.conftest import place_order
from tests.people import add_user, client_of

ClientFor = Callable[[Tenant], APIClient]
TEA = {"description": "Tea", "quantity": 2, "unit_amount": 1250}
ORDER = {"currency": "EUR", "payment_token": "tok_ok", "lines": [TEA]}


@pytest.fixture
def at_acme(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada"))


def test_an_order_comes_back_with_its_total_and_its_job(at_acme: APIClient) -> None:
    lines = [TEA, {"description": "Cup", "quantity": 1, "unit_amount": 0}]
    response = at_acme.post("/api/v1/orders/", {**ORDER, "lines": lines})
    assert response.status_code == 201
    order = response.json()
    assert (order["status"], order["currency"], order["total_amount"], order["lines"]) == (
        "pending",
        "EUR",
        2500,
        lines,
    )
    [job] = order["jobs"]
    assert Job.objects.get(pk=job).task == "billing.tasks.bill_order"
    assert at_acme.get(f"/api/v1/orders/{order['id']}/").json() == order


def test_the_token_is_in_no_answer_and_in_no_job(at_acme: APIClient) -> None:
    response = at_acme.post("/api/v1/orders/", {**ORDER, "payment_token": "tok_secret"})
    shown = at_acme.get(f"/api/v1/orders/{response.json()['id']}/").content + response.content
    assert b"tok_secret" not in shown
    [job] = Job.objects.all()
    assert "tok_secret" not in job.args + job.kwargs


def line(**fields: Any) -> dict[str, Any]:
    return {"lines": [{**TEA, **fields}]}


@pytest.mark.parametrize(
    "change",
    [
        {"currency": "EUX"},
        {"currency": "eur"},
        {"currency": "XAU"},
        {"currency": None},
        {"currency": ["EUR"]},
        {"payment_token": ""},
        {"payment_token": "x" * 201},
        {"payment_token": "tok\0"},
        {"lines": []},
        {"lines": [TEA] * 101},
        {"lines": "tea"},
        {"lines": [None]},
        line(unit_amount=0),
        line(unit_amount=-1),
        line(unit_amount=1.5),
        line(unit_amount=True),
        line(unit_amount=10**12 + 1),
        line(unit_amount=10**400),
        line(quantity=0),
        line(quantity=10_001),
        line(quantity=10**400),
        line(description=""),
        line(description="x" * 501),
        line(description="Te\0a"),
    ],
)
def test_what_is_no_order_is_refused_and_leaves_nothing(
    at_acme: APIClient, acme: Tenant, change: dict[str, Any]
) -> None:
    response = at_acme.post("/api/v1/orders/", {**ORDER, **change})
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert not Job.objects.exists()
    with tenant_context(acme):
        assert not Order.objects.exists()


def test_an_error_points_at_its_line(at_acme: APIClient) -> None:
    lines = [{"description": "Tea", "quantity": 1, "unit_amount": 1}, {"description": "Tea", "quantity": 0}]
    body = at_acme.post("/api/v1/orders/", {"currency": "EUR", "lines": lines}).json()
    assert {"#/lines/1/quantity", "#/lines/1/unit_amount"} <= {error["pointer"] for error in body["errors"]}
    assert not [error for error in body["errors"] if error["pointer"].startswith("#/lines/0")]


def test_half_a_character_is_refused(at_acme: APIClient) -> None:
    body = json.dumps({**ORDER, **line(description="\ud800")})
    assert at_acme.post("/api/v1/orders/", body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("field", ["currency", "payment_token", "lines"])
def test_each_field_is_needed(at_acme: APIClient, field: str) -> None:
    response = at_acme.post("/api/v1/orders/", {name: value for name, value in ORDER.items() if name != field})
    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == [f"#/{field}"]


def test_the_largest_order_fits(at_acme: APIClient) -> None:
    gold = {"description": "Gold", "quantity": 9000, "unit_amount": 10**12}
    rest = {"description": "Rest", "quantity": 1, "unit_amount": 2**53 - 1 - 9000 * 10**12 - 7198 * 10**9}
    silver = {"description": "Silver", "quantity": 7198, "unit_amount": 10**9}
    response = at_acme.post("/api/v1/orders/", {**ORDER, "lines": [gold, silver, rest]})
    assert response.status_code == 201
    assert response.json()["total_amount"] == 2**53 - 1


def test_a_total_that_some_clients_cannot_read_is_refused(at_acme: APIClient, acme: Tenant) -> None:
    gold = {"description": "Gold", "quantity": 10_000, "unit_amount": 10**12}
    [error] = at_acme.post("/api/v1/orders/", {**ORDER, "lines": [gold]}).json()["errors"]
    assert (error["pointer"], error["code"]) == ("#/lines", "max_value")
    with tenant_context(acme):
        assert not Order.objects.exists()


def test_there_is_no_order_of_nothing(at_acme: APIClient) -> None:
    free = {**TEA, "unit_amount": 0}
    [error] = at_acme.post("/api/v1/orders/", {**ORDER, "lines": [free, free]}).json()["errors"]
    assert (error["pointer"], error["code"]) == ("#/lines", "min_value")


def test_the_total_is_the_servers_to_say(at_acme: APIClient) -> None:
    claimed = {"total_amount": 1, "status": "paid", "jobs": [], "id": str(new_id())}
    errors = at_acme.post("/api/v1/orders/", {**ORDER, **claimed}).json()["errors"]
    assert {(error["pointer"], error["code"]) for error in errors} == {(f"#/{name}", "read_only") for name in claimed}


def test_a_strangers_order_is_not_there(at_acme: APIClient, globex: Tenant) -> None:
    theirs = place_order(globex, add_user(globex, "ada"))
    for unknown in (theirs.pk, new_id(), "1", "%00"):
        assert at_acme.get(f"/api/v1/orders/{unknown}/").status_code == 404
    assert at_acme.get("/api/v1/orders/").json()["results"] == []
    assert at_acme.get(f"/api/v1/invoices/?order={theirs.pk}").json()["results"] == []


def test_nobody_orders_without_a_token(acme: Tenant, client_for: ClientFor) -> None:
    assert client_for(acme).post("/api/v1/orders/", ORDER).status_code == 401
    assert client_for(acme).get("/api/v1/invoices/").status_code == 401


def test_lists_are_filtered_and_newest_first(at_acme: APIClient) -> None:
    first = at_acme.post("/api/v1/orders/", ORDER).json()
    second = at_acme.post("/api/v1/orders/", {**ORDER, "currency": "JPY"}).json()

    def ids(query: str) -> list[str]:
        return [order["id"] for order in at_acme.get(f"/api/v1/orders/?{query}").json()["results"]]

    assert ids("") == [second["id"], first["id"]]
    assert ids("currency=JPY") == [second["id"]]
    assert ids("status=paid") == []
    assert ids(f"created_before={first['created_at']}") == [first["id"]]
    assert ids("created_after=2999-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "url", ["orders/?status=gone", "orders/?created_after=x", "invoices/?order=1", "invoices/?status=%00"]
)
def test_a_filter_that_makes_no_sense_is_refused(at_acme: APIClient, url: str) -> None:
    assert at_acme.get(f"/api/v1/{url}").status_code == 400


def test_a_list_takes_as_many_queries_for_many_orders_as_for_one(
    at_acme: APIClient, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    for _ in range(4):
        at_acme.post("/api/v1/orders/", ORDER)
    with django_assert_max_num_queries(6):
        assert len(at_acme.get("/api/v1/orders/").json()["results"]) == 4
