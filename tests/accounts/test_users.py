import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django_tenants.utils import tenant_context
from rest_framework.exceptions import APIException
from rest_framework.test import APIClient

from accounts import services
from accounts.errors import LastOwner
from accounts.models import User
from jobs.models import Job
from notifications.models import Message
from tenants.ids import new_id
from tenants.models import Tenant
from tests.people import PASSWORD, add_user, at_once, await_blocked, client_of

URL = "/api/v1/users/"
ROLES = ["owner", "admin", "member"]


def person(name: str = "ann", **changes: Any) -> dict[str, Any]:
    return {
        "email": f"{name}@acme.example",
        "full_name": "Ann Ash",
        "role": "member",
        "password": PASSWORD,
        **changes,
    }


def users_of(tenant: Tenant) -> set[str]:
    with tenant_context(tenant):
        return set(User.objects.values_list("email", flat=True))


# Creating


def test_a_user_is_created_and_gets_a_link(
    as_ada: APIClient, acme: Tenant, globex: Tenant, run_jobs: Callable[..., int]
) -> None:
    answer = as_ada.post(URL, person())
    assert answer.status_code == 201
    created = answer.json()
    assert {key: created[key] for key in ("email", "full_name", "role", "is_active")} == {
        "email": "ann@acme.example",
        "full_name": "Ann Ash",
        "role": "member",
        "is_active": True,
    }
    assert "password" not in created
    [job] = Job.objects.all()
    assert created["jobs"] == [str(job.pk)]
    assert job.tenant_id == acme.pk
    assert PASSWORD not in str(vars(job))
    with tenant_context(acme):
        message = Message.objects.get()
        assert str(User.objects.get(email="ann@acme.example").pk) == created["id"]
    assert message.to == "ann@acme.example"
    assert "http://acme.localhost:8000/link/?link=" in message.text
    assert users_of(globex) == set()


def test_a_created_user_can_log_in(as_ada: APIClient, acme: Tenant, client_for: Callable[[Tenant], APIClient]) -> None:
    as_ada.post(URL, person(password=f" {PASSWORD} "))
    credentials = {"email": "ann@acme.example", "password": f" {PASSWORD} "}
    assert client_for(acme).post("/api/v1/tokens/", credentials).status_code == 201


@pytest.mark.django_db
def test_a_rollback_leaves_neither_user_nor_mail_nor_job(acme: Tenant, ada: User) -> None:
    with tenant_context(acme):
        with transaction.atomic():
            services.create_user(actor=ada, **person())
            transaction.set_rollback(True)
        assert not Message.objects.exists()
    assert users_of(acme) == {ada.email}
    assert not Job.objects.exists()


@pytest.mark.parametrize("actor", ROLES)
@pytest.mark.parametrize("role", ROLES)
def test_who_may_create_whom(acme: Tenant, actor: str, role: str) -> None:
    client = client_of(acme, add_user(acme, "amos", actor))
    allowed = actor == "owner" or (actor == "admin" and role != "owner")
    answer = client.post(URL, person(role=role))
    assert answer.status_code == (201 if allowed else 403)
    assert len(users_of(acme)) == 1 + allowed


@pytest.mark.parametrize("email", ["alan@acme.example", "ALAN@acme.EXAMPLE"])
def test_an_email_is_taken_in_any_case(as_ada: APIClient, acme: Tenant, alan: User, email: str) -> None:
    answer = as_ada.post(URL, person(email=email))
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
    assert len(users_of(acme)) == 2
    assert not Job.objects.exists()


def test_of_a_race_for_an_email_one_wins(committed_db: None, acme: Tenant) -> None:
    clients = [client_of(acme, add_user(acme, name, "owner")) for name in ("ada", "amy")]
    calls = [
        lambda client=client, email=email: client.post(URL, person(email=email)).status_code
        for client, email in zip(clients, ["ann@acme.example", "Ann@acme.example"], strict=True)
    ]
    assert sorted(at_once(*calls)) == [201, 409]
    assert len(users_of(acme)) == 3
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"email": "ann"}, "#/email"),
        ({"email": "ann@[IPv6:::1]"}, "#/email"),
        ({"email": "ann@localhost"}, "#/email"),
        ({"email": "=?utf-8?q?ann?=@acme.example"}, "#/email"),
        ({"email": "ann@127.0.0.11"}, "#/email"),
        ({"email": None}, "#/email"),
        ({"email": {"a": 1}}, "#/email"),
        ({"email": "a" * 250 + "@acme.example"}, "#/email"),
        ({"role": "king"}, "#/role"),
        ({"role": ["owner"]}, "#/role"),
        ({"full_name": " "}, "#/full_name"),
        ({"full_name": "a\x00b"}, "#/full_name"),
        ({"full_name": "a\tb"}, "#/full_name"),
        ({"full_name": "a" * 201}, "#/full_name"),
        ({"password": "12345678901"}, "#/password"),
        ({"password": "ann@acme.example"}, "#/password"),
        ({"password": "Ann Ash 1"}, "#/password"),
        ({"password": "a" * 257}, "#/password"),
        ({"password": 12.5}, "#/password"),
    ],
)
def test_what_is_no_user(as_ada: APIClient, acme: Tenant, changes: dict[str, Any], pointer: str) -> None:
    answer = as_ada.post(URL, person(**changes))
    assert answer.status_code == 400
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert len(users_of(acme)) == 1


@pytest.mark.parametrize(
    "email", ["ann@[127.0.0.1]", "ann@localhost", '"ann"@acme.example', "=?utf-8?q?ann?=@acme.example"]
)
def test_an_address_of_before_goes_on_serving(
    as_ada: APIClient, acme: Tenant, client_for: Callable[[Tenant], APIClient], run_jobs: Callable[..., int], email: str
) -> None:
    ann = add_user(acme, "ann")
    with tenant_context(acme):
        User.objects.filter(pk=ann.pk).update(email=email)
    client = client_for(acme)
    assert client.post("/api/v1/tokens/", {"email": email.upper(), "password": PASSWORD}).status_code == 201
    assert as_ada.patch(f"{URL}{ann.pk}/", {"full_name": "Ann Ash"}).status_code == 200
    assert client.post("/api/v1/password-resets/", {"email": email}).status_code == 202
    run_jobs()
    with tenant_context(acme):
        assert Message.objects.get().to == email


def test_half_a_character_is_no_name(as_ada: APIClient) -> None:
    body = json.dumps(person(full_name="\ud800"))
    answer = as_ada.post(URL, body, content_type="application/json")
    assert {error["pointer"] for error in answer.json()["errors"]} == {"#/full_name"}


# Reading


def test_owners_and_admins_see_everybody(as_ada: APIClient, as_amy: APIClient, alan: User) -> None:
    for client in (as_ada, as_amy):
        emails = [user["email"] for user in client.get(URL).json()["results"]]
        assert emails == ["alan@acme.example", "amy@acme.example", "ada@acme.example"]
        assert client.get(f"{URL}{alan.pk}/").json()["email"] == alan.email


def test_a_member_sees_themself(as_alan: APIClient, alan: User, ada: User) -> None:
    assert [user["email"] for user in as_alan.get(URL).json()["results"]] == [alan.email]
    assert as_alan.get(f"{URL}{alan.pk}/").status_code == 200
    assert as_alan.get(f"{URL}me/").json()["email"] == alan.email
    assert as_alan.get(f"{URL}{ada.pk}/").status_code == 404


def test_nobody_sees_another_tenants_users(as_ada: APIClient, gus: User) -> None:
    assert as_ada.get(f"{URL}{gus.pk}/").status_code == 404
    assert as_ada.patch(f"{URL}{gus.pk}/", {"full_name": "Gone"}).status_code == 404
    assert gus.email not in [user["email"] for user in as_ada.get(URL).json()["results"]]


@pytest.mark.parametrize(
    "id",
    ["7", "x", "%00", str(new_id()), str(new_id())[:-1], "٣" * 32],
    ids=["number", "letter", "NUL", "of nobody", "too short", "other digits"],
)
def test_no_such_user(as_ada: APIClient, id: str) -> None:
    answer = as_ada.get(f"{URL}{id}/")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("role=owner", ["ada"]),
        ("role=member", ["alan", "abe"]),
        ("is_active=false", ["abe"]),
        ("is_active=true&role=member", ["alan"]),
        ("email=ALAN@acme.example", ["alan"]),
        ("email=nobody@acme.example", []),
    ],
)
def test_filters(as_ada: APIClient, acme: Tenant, query: str, names: list[str]) -> None:
    add_user(acme, "abe", is_active=False)
    add_user(acme, "alan")
    found = [user["email"] for user in as_ada.get(f"{URL}?{query}").json()["results"]]
    assert found == [f"{name}@acme.example" for name in names]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("role=king", "role"),
        ("role=%00", "role"),
        ("is_active=maybe", "is_active"),
        ("email=%00", "email"),
        ("cursor=x", "cursor"),
        ("cursor=cD14", "cursor"),
        ("cursor=cD0lMDA=", "cursor"),
        ("cursor=%ff", "cursor"),
        ("cursor=bz1h", "cursor"),
    ],
)
def test_invalid_queries(as_ada: APIClient, query: str, parameter: str) -> None:
    answer = as_ada.get(f"{URL}?{query}")
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


def test_pages_lose_nobody_who_came_at_the_same_instant(as_ada: APIClient, acme: Tenant) -> None:
    with tenant_context(acme):
        made = User.objects.bulk_create(User(email=f"u{n}@acme.example", full_name="U") for n in range(23))
        User.objects.update(created_at=made[0].created_at)
    seen: list[str] = []
    url: str | None = f"{URL}?page_size=5"
    while url:
        page = as_ada.get(url).json()
        seen += [user["id"] for user in page["results"]]
        url = page["next"]
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen) == 24


# Changing


def test_users_change_themselves(as_alan: APIClient, acme: Tenant, alan: User) -> None:
    answer = as_alan.patch(f"{URL}me/", {"full_name": "Alan Arc"})
    assert (answer.status_code, answer.json()["full_name"]) == (200, "Alan Arc")
    assert as_alan.patch(f"{URL}{alan.pk}/", {"full_name": "Alan Ash"}).status_code == 200
    with tenant_context(acme):
        alan.refresh_from_db()
    assert (alan.full_name, alan.role) == ("Alan Ash", "member")


@pytest.mark.parametrize("password", ["short", "alan@acme.example"])
def test_a_new_password_is_validated(as_alan: APIClient, alan: User, password: str) -> None:
    answer = as_alan.patch(f"{URL}me/", {"password": password, "old_password": PASSWORD})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/password"]


def test_deactivation_ends_the_tokens(as_ada: APIClient, as_alan: APIClient, alan: User) -> None:
    assert as_ada.patch(f"{URL}{alan.pk}/", {"is_active": False}).json()["is_active"] is False
    assert as_alan.get(f"{URL}me/").status_code == 401
    as_ada.patch(f"{URL}{alan.pk}/", {"is_active": True})
    assert as_alan.get(f"{URL}me/").status_code == 401


def test_a_change_of_name_keeps_the_tokens(as_ada: APIClient, as_alan: APIClient, alan: User) -> None:
    as_ada.patch(f"{URL}{alan.pk}/", {"full_name": "Alan Ash", "role": "admin"})
    assert as_alan.get(f"{URL}me/").json()["role"] == "admin"


@pytest.mark.parametrize(
    ("actor", "target", "changes", "status"),
    [
        ("owner", "owner", {"role": "member"}, 200),
        ("owner", "member", {"role": "owner"}, 200),
        ("admin", "member", {"role": "admin"}, 200),
        ("admin", "admin", {"role": "member"}, 200),
        ("admin", "member", {"is_active": False}, 200),
        ("admin", "member", {"role": "owner"}, 403),
        ("admin", "owner", {"role": "member"}, 403),
        ("admin", "owner", {"is_active": False}, 403),
        ("owner", "member", {"password": "another horse battery"}, 400),
        ("admin", "owner", {"password": "another horse battery"}, 400),
        ("admin", "owner", {"full_name": "Nobody"}, 403),
        ("member", "member", {"full_name": "Nobody"}, 404),
        ("member", "owner", {"password": "another horse battery"}, 404),
    ],
)
def test_who_may_change_whom(acme: Tenant, actor: str, target: str, changes: dict[str, Any], status: int) -> None:
    client = client_of(acme, add_user(acme, "amos", actor))
    user = add_user(acme, "axel", target)
    assert client.patch(f"{URL}{user.pk}/", changes).status_code == status
    with tenant_context(acme):
        changed = User.objects.get(pk=user.pk)
    before = (user.role, user.is_active, user.full_name, user.password)
    assert ((changed.role, changed.is_active, changed.full_name, changed.password) != before) == (status == 200)


@pytest.mark.parametrize("changes", [{"role": "owner"}, {"role": "member", "full_name": "A"}, {"is_active": False}])
def test_a_member_gets_no_rights_by_asking(
    as_alan: APIClient, acme: Tenant, alan: User, changes: dict[str, Any]
) -> None:
    assert as_alan.patch(f"{URL}{alan.pk}/", changes).status_code == 403
    as_alan.patch(f"{URL}me/", changes)
    with tenant_context(acme):
        alan.refresh_from_db()
    assert (alan.role, alan.is_active) == ("member", True)


def test_an_admin_may_step_down(as_amy: APIClient, amy: User) -> None:
    assert as_amy.patch(f"{URL}{amy.pk}/", {"role": "owner"}).status_code == 403
    assert as_amy.patch(f"{URL}{amy.pk}/", {"role": "member"}).status_code == 200


@pytest.mark.parametrize("changes", [{"role": "admin"}, {"is_active": False}])
def test_the_last_owner_stays(as_ada: APIClient, acme: Tenant, ada: User, changes: dict[str, Any]) -> None:
    add_user(acme, "abe", "owner", is_active=False)
    answer = as_ada.patch(f"{URL}{ada.pk}/", changes)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    with tenant_context(acme):
        ada.refresh_from_db()
    assert (ada.role, ada.is_active) == ("owner", True)


def test_an_owner_who_has_no_password_yet_is_no_other_owner(as_ada: APIClient, acme: Tenant, ada: User) -> None:
    invited = {"email": "abe@acme.example", "full_name": "Abe", "role": "owner"}
    assert as_ada.post(URL, invited).status_code == 201

    assert as_ada.patch(f"{URL}{ada.pk}/", {"is_active": False}).json()["code"] == "last_owner"
    assert as_ada.patch(f"{URL}{ada.pk}/", {"role": "member"}).json()["code"] == "last_owner"

    with tenant_context(acme):
        abe = User.objects.get(email="abe@acme.example")
        abe.set_password("correct horse battery")
        abe.save()
    assert as_ada.patch(f"{URL}{ada.pk}/", {"role": "member"}).status_code == 200


def test_two_owners_cannot_both_step_down_at_once(committed_db: None, acme: Tenant) -> None:
    ada, abe = [add_user(acme, name, "owner") for name in ("ada", "abe")]
    stepped_down = threading.Event()

    def first() -> None:
        with tenant_context(acme), transaction.atomic():
            services.update_user(actor=ada, user_id=ada.pk, role="member")
            stepped_down.set()
            await_blocked()

    def second() -> None:
        stepped_down.wait(5)
        with tenant_context(acme), pytest.raises(LastOwner):
            services.update_user(actor=abe, user_id=abe.pk, role="member")

    at_once(first, second)
    with tenant_context(acme):
        assert User.objects.get(role="owner") == abe


def test_rights_are_those_of_the_moment(acme: Tenant, ada: User, amy: User, alan: User) -> None:
    with tenant_context(acme):
        User.objects.filter(pk=amy.pk).update(role="member")
        with pytest.raises(APIException):
            services.update_user(actor=amy, user_id=alan.pk, full_name="Changed")


def test_an_unknown_user_is_not_found(acme: Tenant, ada: User) -> None:
    with tenant_context(acme), pytest.raises(APIException, match="No user has this id"):
        services.update_user(actor=ada, user_id=uuid.uuid4(), full_name="Nobody")


@pytest.mark.parametrize("method", ["put", "delete"])
def test_users_are_neither_replaced_nor_deleted(as_ada: APIClient, alan: User, method: str) -> None:
    assert getattr(as_ada, method)(f"{URL}{alan.pk}/").status_code == 405


def test_a_request_asks_little_of_the_database(
    as_ada: APIClient, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    as_ada.get(f"{URL}me/")
    # The tenant, its search path, the token with its user.
    with django_assert_max_num_queries(4):
        as_ada.get(f"{URL}me/")
