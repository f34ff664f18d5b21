"""Whatever a client sends, it is the client's mistake: no request makes a 500."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.models import Tenant
from tests.people import PASSWORD, add_user, client_of

odd_text = st.sampled_from(
    ["", "\x00", "a\x00b", "\ud800", "\u202e", "' OR 1=1", "%s", "\U0001d4b3", "a" * 300, " ", "\n", "null"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.floats()
    | odd_text
    | st.text(max_size=20)
    | st.sampled_from(["a@b.example", "EUR", "tok_ok", "owner", "member", PASSWORD, "true", "acme"])
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=2))

LINE = {"description": "Tea", "quantity": 1, "unit_amount": 100}
OWNER = {"email": "ann@acme.example", "full_name": "Ann Ash", "password": PASSWORD}
ORDER = {"currency": "EUR", "payment_token": "tok_ok", "lines": [LINE]}
# Each with a body that is right, of which one value is then replaced.
TARGETS: list[tuple[str, str, dict[str, Any]]] = [
    ("post", "tenants/", {"name": "Initech", "slug": "initech", "owner": OWNER}),
    ("post", "tokens/", {"email": "ada@acme.example", "password": PASSWORD}),
    ("post", "confirmations/", {"link": "0f" * 48}),
    ("post", "password-resets/", {"email": "ada@acme.example"}),
    ("post", "passwords/", {"link": "0f" * 48, "password": PASSWORD}),
    ("post", "users/{id}/link/", {}),
    ("post", "users/", {**OWNER, "role": "member"}),
    ("patch", "users/me/", {"full_name": "Ann"}),
    ("patch", "users/me/", {"password": f"{PASSWORD}!", "old_password": PASSWORD}),
    ("patch", "users/{id}/", {"full_name": "Ann", "role": "owner", "is_active": True}),
    ("post", "orders/", ORDER),
    ("patch", "organisation/", {"name": "Acme", "timezone": "Europe/Berlin"}),
]
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def places(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value in a body, and to the body itself."""
    items: Any = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [path] + [place for key, value in items for place in places(value, (*path, key))]


def replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = body.copy()
    copy[place[0]] = replaced(body[place[0]], place[1:], value)
    return copy


@pytest.mark.parametrize(("method", "path", "body"), TARGETS)
def test_no_body_breaks_anything(acme: Tenant, method: str, path: str, body: dict[str, Any]) -> None:
    ada = add_user(acme, "ada", "owner")
    add_user(acme, "abe", "owner")
    client = client_of(acme, ada)
    headers = {"host": "localhost"} if path == "tenants/" else {}

    @quick
    @given(st.sampled_from(places(body)), values)
    def send(place: tuple[Any, ...], value: Any) -> None:
        text = json.dumps(replaced(body, place, value))
        url = f"/api/v1/{path.format(id=ada.pk)}"
        answer = getattr(client, method)(url, text, content_type="application/json", headers=headers)
        assert answer.status_code < 500
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"

    send()


@pytest.mark.parametrize("path", ["users", "orders", "invoices", "payments", "messages", "tenants", "jobs"])
def test_no_query_breaks_anything(acme: Tenant, path: str) -> None:
    client = client_of(acme, add_user(acme, "ada", "owner"))
    names = ["role", "email", "is_active", "cursor", "page_size", "status", "currency", "order", "to", "format"]
    names += ["created_after", "created_before", "updated_after", "updated_before", "ordering", "number", "placed_by"]

    @quick
    @given(
        st.dictionaries(st.sampled_from(names), st.text(max_size=10) | odd_text | st.integers().map(str), max_size=4)
    )
    def send(query: dict[str, str]) -> None:
        encodable = {name: value.encode("utf-8", "surrogatepass") for name, value in query.items()}
        assert client.get(f"/api/v1/{path}/", encodable).status_code < 500

    send()
