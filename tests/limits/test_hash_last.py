"""Who may not, or asks for what is taken, is refused before a password is hashed."""

from collections.abc import Callable
from typing import Any

import pytest
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from accounts.models import User
from tenants.models import Tenant
from tests.people import PASSWORD, add_user, client_of

USERS = "/api/v1/users/"
NEW = "another horse battery"
PEOPLE = {"ada": "owner", "amy": "admin", "alan": "member", "axel": "member"}


@pytest.fixture
def people(acme: Tenant) -> dict[str, User]:
    return {name: add_user(acme, name, role) for name, role in PEOPLE.items()}


def person(**fields: Any) -> dict[str, Any]:
    return {"email": "bob@acme.example", "full_name": "Bob", "role": "member", "password": NEW, **fields}


@pytest.mark.parametrize(
    ("actor", "fields", "status", "code"),
    [
        ("alan", {}, 403, "permission_denied"),
        ("alan", {"email": "ada@acme.example"}, 403, "permission_denied"),
        ("amy", {"role": "owner"}, 403, "permission_denied"),
        ("ada", {"email": "alan@acme.example"}, 409, "email_taken"),
        ("ada", {"email": "ALAN@Acme.Example"}, 409, "email_taken"),
        ("amy", {"email": "ada@acme.example"}, 409, "email_taken"),
        ("ada", {"password": "short"}, 400, "invalid"),
        ("ada", {"full_name": ""}, 400, "invalid"),
    ],
)
def test_a_user_who_is_not_created(
    acme: Tenant,
    people: dict[str, User],
    hashed: list[str],
    actor: str,
    fields: dict[str, Any],
    status: int,
    code: str,
) -> None:
    client = client_of(acme, people[actor])
    hashed.clear()
    for headers in ({}, {"idempotency-key": "one"}):
        answer = client.post(USERS, person(**fields), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert hashed == []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"old_password": ""},
        {"old_password": None},
        {"old_password": PASSWORD, "password": "short"},
        {"old_password": PASSWORD, "full_name": ""},
        {"old_password": PASSWORD, "role": "owner"},
    ],
)
def test_a_password_that_is_not_changed(
    acme: Tenant, people: dict[str, User], hashed: list[str], fields: dict[str, Any]
) -> None:
    client = client_of(acme, people["alan"])
    hashed.clear()
    assert client.patch(f"{USERS}me/", {"password": NEW, **fields}).status_code == 400
    assert hashed == []
    with tenant_context(acme):
        assert User.objects.get(pk=people["alan"].pk).password == people["alan"].password


@pytest.mark.parametrize(("actor", "target"), [("alan", "ada"), ("amy", "ada"), ("ada", "alan"), ("ada", "ada")])
def test_a_password_that_is_somebody_else_s(
    acme: Tenant, people: dict[str, User], hashed: list[str], actor: str, target: str
) -> None:
    client = client_of(acme, people[actor])
    hashed.clear()
    assert client.patch(f"{USERS}{people[target].pk}/", {"password": NEW}).status_code in (400, 404)
    assert hashed == []


def test_one_that_is_changed_is_hashed_once(acme: Tenant, people: dict[str, User], hashed: list[str]) -> None:
    client = client_of(acme, people["alan"])
    hashed.clear()
    assert client.patch(f"{USERS}me/", {"password": NEW, "old_password": PASSWORD}).status_code == 200
    assert hashed == [PASSWORD, NEW]


def test_a_request_that_is_sent_again_is_hashed_once(acme: Tenant, people: dict[str, User], hashed: list[str]) -> None:
    client = client_of(acme, people["ada"])
    hashed.clear()
    sent = [client.post(USERS, person(), headers={"idempotency-key": "one"}).status_code for _ in range(3)]
    other = client.post(USERS, person(full_name="Rob"), headers={"idempotency-key": "one"})
    assert [*sent, other.status_code] == [201, 201, 201, 422]
    assert hashed == [NEW]


@pytest.mark.parametrize(("slug", "status"), [("acme", 409), ("ACME", 400), ("www", 400), ("failed", 409)])
def test_an_organisation_that_is_not_signed_up(
    acme: Tenant, globex: Tenant, public_client: APIClient, hashed: list[str], slug: str, status: int
) -> None:
    Tenant.objects.filter(pk=globex.pk).update(slug="failed", status=Tenant.Status.FAILED)
    owner = {"email": "ian@initech.example", "full_name": "Ian Ink", "password": PASSWORD}
    answer = public_client.post("/api/v1/tenants/", {"name": "Initech", "slug": slug, "owner": owner})
    assert answer.status_code == status
    assert hashed == []


@pytest.mark.parametrize("status", ["suspended", "deleting", "provisioning", "failed"])
def test_a_log_in_where_nobody_is_served(
    acme: Tenant, hashed: list[str], client_for: Callable[[Tenant], APIClient], status: str
) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=status)
    credentials = {"email": "ada@acme.example", "password": PASSWORD}
    assert client_for(acme).post("/api/v1/tokens/", credentials).status_code in (403, 503)
    assert hashed == []


def test_whoever_may_not_ask_is_told_so_before_the_password_is_looked_at(acme: Tenant, hashed: list[str]) -> None:
    stranger = APIClient(headers={"host": "acme.localhost", "authorization": "Bearer " + "a" * 64})
    assert stranger.post(USERS, person()).status_code == 401
    assert stranger.patch(f"{USERS}me/", {"password": NEW}).status_code == 401
    assert hashed == []
