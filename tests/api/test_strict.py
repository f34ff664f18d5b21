"""What a body may hold: the fields that the schema names, in its JSON types, once each."""

# ruff: noqa: RUF001  # letters of other scripts are what is tested

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.urls import resolve
from django_filters import DateTimeFilter, IsoDateTimeFromToRangeFilter, UUIDFilter
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from accounts.models import User
from config import api
from config.queries import known_parameters
from tenants.filters import IdFilter, TimeFilter
from tenants.models import Tenant
from tenants.strict import MAX_UNKNOWN
from tests.people import PASSWORD, add_user, client_of

USERS, TOKENS = "/api/v1/users/", "/api/v1/tokens/"
BOB = {"email": "bob@acme.example", "full_name": "Bob", "password": PASSWORD, "role": "member"}
OWNER = {"email": "ian@initech.example", "full_name": "Ian Ink", "password": PASSWORD}


@pytest.fixture
def ada(acme: Tenant) -> User:
    return add_user(acme, "ada", "owner")


@pytest.fixture
def client(acme: Tenant, ada: User) -> APIClient:
    return client_of(acme, ada)


def wrong(answer: Any) -> set[tuple[str, str]]:
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return {(error["pointer"], error["code"]) for error in answer.json()["errors"]}


@pytest.mark.parametrize("value", ["true", "false", 1, 0, "1", "yes", "off", 1.0, [], {}])
def test_a_boolean_is_true_or_false(client: APIClient, ada: User, value: Any) -> None:
    assert wrong(client.patch(f"{USERS}{ada.pk}/", {"is_active": value})) == {("#/is_active", "wrong_type")}


@pytest.mark.parametrize("value", [12, 1.5, True, [], {}])
def test_a_string_is_a_string(
    client: APIClient, public_client: APIClient, client_for: Callable[[Tenant], APIClient], acme: Tenant, value: Any
) -> None:
    for field in ("email", "full_name", "password"):
        assert wrong(client.post(USERS, {**BOB, field: value})) == {(f"#/{field}", "wrong_type")}
    sign_up = {"name": value, "slug": "initech", "owner": {**OWNER, "full_name": value}}
    named = {("#/name", "wrong_type"), ("#/owner/full_name", "wrong_type")}
    assert wrong(public_client.post("/api/v1/tenants/", sign_up)) == named
    credentials = {"email": value, "password": PASSWORD}
    assert wrong(client_for(acme).post(TOKENS, credentials)) == {("#/email", "wrong_type")}


@pytest.mark.parametrize(
    "field", ["isActive", "IS_ACTIVE", "is_active ", "", "a/b", "id", "email", "ünïcode", "\ud800"]
)
def test_an_unknown_field_is_named_as_it_was_written(client: APIClient, ada: User, field: str) -> None:
    body = json.dumps({"full_name": "Changed", field: False})
    answer = client.patch(f"{USERS}{ada.pk}/", body, content_type="application/json")
    assert wrong(answer) == {("#/" + field.replace("/", "~1"), "unknown_field")}


def test_unknown_fields_are_refused_at_every_depth(client: APIClient, public_client: APIClient) -> None:
    sign_up = {"name": "Initech", "slug": "initech", "owner": {**OWNER, "role": "owner"}, "plan": "free"}
    assert wrong(public_client.post("/api/v1/tenants/", sign_up)) == {
        ("#/owner/role", "unknown_field"),
        ("#/plan", "unknown_field"),
    }
    assert wrong(client.patch(f"{USERS}me/", {"role": "owner"})) == {("#/role", "unknown_field")}
    assert wrong(client.post(TOKENS, {"email": "x", "password": "x", "remember": True})) == {
        ("#/remember", "unknown_field")
    }


def test_what_is_wrong_is_told_all_at_once(client: APIClient) -> None:
    answer = client.post(USERS, {"email": "x", "full_name": 7, "fullName": "Bob", "role": "king"})
    assert wrong(answer) == {
        ("#/email", "invalid"),
        ("#/full_name", "wrong_type"),
        ("#/fullName", "unknown_field"),
        ("#/role", "invalid_choice"),
    }


def test_a_body_of_unknown_fields_gets_a_short_answer(client: APIClient) -> None:
    answer = client.post(USERS, {f"f{n}": n for n in range(50_000)})
    assert answer.status_code == 400
    told = [error for error in answer.json()["errors"] if error["code"] == "unknown_field"]
    assert len(told) == MAX_UNKNOWN


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"role": "owner", "role": "member"}', {"#/role"}),
        ('{"role": "owner", "r\\u006fle": "member"}', {"#/role"}),
        ('{"x": 1, "x": 2}', {"#/x"}),
        ('{"a": [{"b": 1}, {"b": 1, "b": 1, "c": 1, "c": 2, "c": 3}]}', {"#/a/1/b", "#/a/1/c"}),
        ('{"a": {"b": 1, "b": 2}, "a": 3}', {"#/a"}),
        ('[{"a": 1, "a": 2}]', {"#/0/a"}),
    ],
)
def test_a_name_stands_once_in_its_object(client: APIClient, body: str, pointers: set[str]) -> None:
    answer = client.post(USERS, body, content_type="application/json")
    assert wrong(answer) == {(pointer, "repeated") for pointer in pointers}


@pytest.mark.parametrize("role", ["\ud800", "\udfff king"])
def test_half_a_character_is_quoted_back(client: APIClient, role: str) -> None:
    body = json.dumps({**BOB, "role": role})
    assert wrong(client.post(USERS, body, content_type="application/json")) == {("#/role", "invalid_choice")}


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("山田\u3000太郎", "山田 太郎"),
        ("علی\u200cرضا", "علی\u200cرضا"),
        ("Anne\u00a0Marie", "Anne Marie"),
        ("Zoe\u0308", "Zoë"),
        ("\u3000Ann\u3000", "Ann"),
    ],
)
def test_a_name_is_stored_in_one_form(client: APIClient, public_client: APIClient, written: str, stored: str) -> None:
    assert client.post(USERS, {**BOB, "full_name": written}).json()["full_name"] == stored
    assert client.patch(f"{USERS}me/", {"full_name": written}).json()["full_name"] == stored
    sign_up = {"name": written, "slug": "initech", "owner": {**OWNER, "full_name": written}}
    assert public_client.post("/api/v1/tenants/", sign_up).json()["name"] == stored


@pytest.mark.parametrize("name", ["a\u202eb", "a\u2066b", "a\u200bb", "a\u2028b", "a\x85b", "a" * 201, "ﷺ\u0958" * 101])
def test_what_is_no_name(client: APIClient, name: str) -> None:
    [(pointer, code)] = wrong(client.post(USERS, {**BOB, "full_name": name}))
    assert pointer == "#/full_name"
    assert code in ("not_printable", "max_length")


@pytest.mark.parametrize(
    "email", ["x@BÜCHER.example", "X@bu\u0308cher.example", "x@xn--bcher-kva.example", "x@bücher.example"]
)
def test_one_mailbox_is_one_account(client: APIClient, email: str) -> None:
    first = client.post(USERS, {**BOB, "email": "x@bücher.example"})
    assert (first.status_code, first.json()["email"]) == (201, "x@xn--bcher-kva.example")
    second = client.post(USERS, {**BOB, "email": email})
    assert (second.status_code, second.json()["code"]) == (409, "email_taken")
    assert client.post(TOKENS, {"email": email, "password": PASSWORD}).status_code == 201
    found = client.get(USERS, {"email": email}).json()["results"]
    assert [user["id"] for user in found] == [first.json()["id"]]
    sent = client.get("/api/v1/messages/", {"to": email}).json()["results"]
    assert [message["to"] for message in sent] == ["x@xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "email",
    [
        *('"a\x0bb"@acme.example', "a" * 65 + "@acme.example", "ü@acme.example", "x@b_.example"),
        *('"bob"@acme.example', r'"\\bob"@acme.example', "bob\u0131@acme.example", "=?utf-8?q?bob?=@acme.example"),
    ],
)
def test_what_is_no_address(client: APIClient, email: str) -> None:
    [(pointer, _)] = wrong(client.post(USERS, {**BOB, "email": email}))
    assert pointer == "#/email"
    assert client.post(TOKENS, {"email": email, "password": PASSWORD}).status_code == 401


def test_what_takes_no_fields_refuses_them(client: APIClient) -> None:
    job = client.post(USERS, BOB).json()["jobs"][0]
    answer = client.post(f"/api/v1/jobs/{job}/cancellation/", {"reason": "a mistake"})
    assert wrong(answer) == {("#/reason", "unknown_field")}
    assert client.post(f"/api/v1/jobs/{job}/cancellation/", {}).status_code == 202


@pytest.fixture(scope="module")
def operations() -> list[dict[str, Any]]:
    generator: Any = SchemaGenerator
    described: dict[str, Any] = generator(urlconf="config.api").get_schema(public=True)
    components = described["components"]["schemas"]
    paths = described["paths"].items()
    return [
        {**operation, "path": path, "method": method, "components": components}
        for path, methods in paths
        for method, operation in methods.items()
    ]


def test_the_schema_says_that_other_fields_are_refused(operations: list[dict[str, Any]]) -> None:
    """So a serializer that takes a body, and is no StrictSerializer, fails here."""
    seen = set()
    for operation in operations:
        if "requestBody" in operation:
            named = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            seen.add(named)
            assert operation["components"][named].get("additionalProperties") is False, named
    assert len(seen) >= 5


def test_a_view_takes_the_parameters_that_the_schema_lists(operations: list[dict[str, Any]]) -> None:
    for operation in operations:
        path = operation["path"].replace("{id}", str(uuid4())).replace("{slug}", "acme")
        urls = "config.public_urls" if path.startswith("/api/v1/tenants/") else "config.urls"
        view = resolve(path, urls).func
        listed = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
        assert set(known_parameters(view, operation["method"].upper())) == listed, path


@pytest.mark.parametrize("view", [view for _, view, _ in api.tenant.registry])
def test_filters_are_strict(view: Any) -> None:
    """A time without a zone, and an id in braces, get past django-filter's own."""
    for name, kind in view.filterset_class.base_filters.items():
        assert not isinstance(kind, DateTimeFilter | IsoDateTimeFromToRangeFilter) or isinstance(kind, TimeFilter), name
        assert not isinstance(kind, UUIDFilter) or isinstance(kind, IdFilter), name
