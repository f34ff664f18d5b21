"""What an order may hold: the fields that the schema names, in its JSON types and within its bounds."""

# digits of other scripts are what is tested

import json
from typing import Any
from urllib.parse import quote

import pytest
from django_tenants.utils import tenant_context
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from billing.models import Order
from tenants.models import Tenant
from tests.people import add_user, client_of

ORDERS = "/api/v1/orders/"
TEA = {"description": "Tea", "quantity": 2, "unit_amount": 1250}
ORDER = {"currency": "EUR", "payment_token": "tok_ok", "lines": [TEA]}


@pytest.fixture
def at_acme(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada"))


def wrong(answer: Any) -> set[tuple[str, str]]:
    assert answer.status_code == 400, answer.content
    return {(error["pointer"], error["code"]) for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    "value", ['"12.00"', '"12"', "12.0", "1e3", "1E3", '"1_000"', '"١٢"', '" 12"', "true", "[12]", "1.5", "1e400"]
)
@pytest.mark.parametrize("field", ["unit_amount", "quantity"])
def test_an_integer_is_a_json_integer(at_acme: APIClient, acme: Tenant, field: str, value: str) -> None:
    body = json.dumps({**ORDER, "lines": [{**TEA, field: "?"}]}).replace('"?"', value)
    answer = at_acme.post(ORDERS, body, content_type="application/json")
    assert wrong(answer) == {(f"#/lines/0/{field}", "wrong_type")}
    with tenant_context(acme):
        assert not Order.objects.exists()


@pytest.mark.parametrize("value", [12, 1.5, True, [], {}])
def test_a_string_is_a_string(at_acme: APIClient, value: Any) -> None:
    for field in ("payment_token", "currency"):
        assert wrong(at_acme.post(ORDERS, {**ORDER, field: value})) == {(f"#/{field}", "wrong_type")}
    lines = [TEA, {**TEA, "description": value}]
    assert wrong(at_acme.post(ORDERS, {**ORDER, "lines": lines})) == {("#/lines/1/description", "wrong_type")}


def test_an_unknown_field_of_a_line_is_named_as_it_was_written(at_acme: APIClient) -> None:
    lines = [TEA, {**TEA, "unitAmount": 1}]
    assert wrong(at_acme.post(ORDERS, {**ORDER, "lines": lines})) == {("#/lines/1/unitAmount", "unknown_field")}


def test_the_schema_has_the_bounds_of_an_order() -> None:
    generator: Any = SchemaGenerator
    described: dict[str, Any] = generator(urlconf="config.api").get_schema(public=True)
    order, components = described["paths"][ORDERS]["post"], described["components"]["schemas"]
    named = order["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    fields = components[named]["properties"]
    assert (fields["lines"]["minItems"], fields["lines"]["maxItems"]) == (1, 100)
    assert str(2**53 - 1) in fields["lines"]["description"]
    line = components[fields["lines"]["items"]["$ref"].rpartition("/")[2]]["properties"]
    assert (line["unit_amount"]["minimum"], line["unit_amount"]["maximum"]) == (0, 10**12)
    assert "as a JSON integer: 12, not 12.0" in line["unit_amount"]["description"]
    assert (line["quantity"]["minimum"], line["quantity"]["maximum"]) == (1, 10_000)


@pytest.mark.parametrize(
    "id", ["1", "{01a2040f-3363-722a-9cc9-398661955af6}", "01a2040f3363722a9cc9398661955af6", "٣" * 32]
)
def test_an_id_is_in_its_usual_spelling(at_acme: APIClient, id: str) -> None:
    answer = at_acme.get(f"/api/v1/invoices/?order={quote(id)}")
    assert [(error["parameter"], error["code"]) for error in answer.json()["errors"]] == [("order", "invalid")]


@pytest.mark.parametrize("path", ["payments", "cancellation"])
def test_an_unknown_field_is_refused_below_an_order_too(at_acme: APIClient, path: str) -> None:
    order = at_acme.post(ORDERS, ORDER).json()["id"]
    answer = at_acme.post(f"{ORDERS}{order}/{path}/", {"payment_token": "tok_ok", "reason": "late"})
    assert ("#/reason", "unknown_field") in wrong(answer)


@pytest.mark.parametrize("odd", ["a\nb", "a\tb", "a\x1bb", "a\x7fb", "a\u202eb", "a\u2066b", "a\u200bb", "a\u2028b"])
def test_texts_are_one_line_without_what_nobody_sees(at_acme: APIClient, odd: str) -> None:
    lines = [{**TEA, "description": odd}]
    assert wrong(at_acme.post(ORDERS, {**ORDER, "lines": lines})) == {("#/lines/0/description", "not_printable")}
    assert wrong(at_acme.post(ORDERS, {**ORDER, "payment_token": odd})) == {("#/payment_token", "not_printable")}


def test_a_description_is_stored_as_names_are(at_acme: APIClient) -> None:
    lines = [{**TEA, "description": "\u00a0The\u0301 vert 🍵 "}]
    assert at_acme.post(ORDERS, {**ORDER, "lines": lines}).json()["lines"][0]["description"] == "Thé vert 🍵"


@pytest.mark.parametrize("currency", ["eur", "EURO", "XXX", "€", "EUR%20"])
@pytest.mark.parametrize("path", ["orders", "invoices"])
def test_a_filter_takes_the_currencies_that_an_order_may_have(at_acme: APIClient, path: str, currency: str) -> None:
    answer = at_acme.get(f"/api/v1/{path}/?currency={currency}")
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["parameter"] == "currency"
    assert "give a code in capitals, such as EUR" in error["detail"]
    assert at_acme.get(f"/api/v1/{path}/?currency=EUR").status_code == 200
