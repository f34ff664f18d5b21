"""The table of config/permissions.py, played: each role, at each operation, gets what its row says."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.apps import apps
from django.utils import timezone
from django_tenants.utils import tenant_context
from knox.models import AuthToken

from accounts.models import User
from accounts.permissions import MANAGES
from config.permissions import ROLES, TABLE, Reach
from devstack import CHECKOUT
from tenants.models import Tenant
from tests.isolation.cases import CASES, FILTERS, PAGING
from tests.isolation.organisations import WAYS, Organisation
from tests.isolation.router import (
    LISTS,
    OPERATIONS,
    PATHS,
    answered_by_public_host,
    outcome,
    parameters,
    send,
    url_of,
)
from tests.people import PASSWORD

USERS = "/api/v1/users/"
each_operation = pytest.mark.parametrize("operation", OPERATIONS)
each_way = pytest.mark.parametrize("way", WAYS)


def reach(operation: str, role: str) -> Reach:
    return Reach(getattr(TABLE[operation], role))


@each_operation
def test_each_role_gets_what_the_table_says(at_acme: Organisation, operation: str) -> None:
    for role, way in (("member", "host"), ("admin", "header"), ("owner", "host")):
        me = at_acme.add(role)
        if reach(operation, role) is Reach.NO:
            is_refused(at_acme, me, operation, way)
        elif "{" in operation:
            own, others = (CASES[operation].thing(at_acme, user) for user in (me, at_acme.peer))
            client = at_acme.client_of(me, way)
            assert outcome(send(client, operation, at_acme, thing=own)) == "yes"
            everything = reach(operation, role) is Reach.YES
            found = outcome(send(client, operation, at_acme, thing=others))
            assert found == ("yes" if everything else "not_found")
        elif operation in LISTS:
            lists_own_or_all(at_acme, me, operation, way)
        else:
            assert outcome(send(at_acme.client_of(me, way), operation, at_acme)) == "yes"


def is_refused(at: Organisation, me: User, operation: str, way: str) -> None:
    thing, client = CASES[operation].thing(at, at.peer), at.client_of(me, way)
    before = at.contents()
    answer = send(client, operation, at, thing=thing)
    assert (answer.status_code, outcome(answer)) == (403, "permission_denied")
    assert "Only an owner" in answer.json()["detail"]
    assert at.contents() == before


def lists_own_or_all(at: Organisation, me: User, operation: str, way: str) -> None:
    own, others = (CASES[operation].thing(at, user) for user in (me, at.peer))
    listed = {row["id"] for row in send(at.client_of(me, way), operation, at).json()["results"]}
    assert own in listed
    assert (others in listed) == (reach(operation, me.role) is Reach.YES)
    if reach(operation, me.role) is Reach.OWN:
        assert listed == {own}


@pytest.mark.parametrize("operation", [one for one in LISTS if Reach.OWN in TABLE[one]])
def test_no_query_shows_more_than_one_s_own(at_acme: Organisation, operation: str) -> None:
    url, me = url_of(operation), at_acme.add("member")
    own, others = (CASES[operation].thing(at_acme, user) for user in (me, at_acme.peer))
    boss = at_acme.add("owner")
    CASES[operation].thing(at_acme, boss)
    owner, client = at_acme.client_of(boss), at_acme.client_of(me)
    [row] = [row for row in owner.get(url).json()["results"] if row["id"] == others]
    queries = [{name: FILTERS[name](at_acme, row)} for name in parameters(operation) - PAGING]
    page = owner.get(url, {"page_size": "1"}).json()
    queries.append({"cursor": parse_qs(urlsplit(page["next"]).query)["cursor"][0]})
    for query in queries:
        answer = client.get(url, query)
        assert answer.status_code == 200
        assert {row["id"] for row in answer.json()["results"]} <= {own}, query


@each_operation
def test_django_s_flags_mean_nothing_here(at_acme: Organisation, operation: str) -> None:
    """The platform's admin asks for them. In an organisation's table they are of no use."""
    me = at_acme.add("member", is_staff=True, is_superuser=True)
    match reach(operation, "member"):
        case Reach.NO:
            is_refused(at_acme, me, operation, "host")
        case Reach.OWN if operation in LISTS:
            lists_own_or_all(at_acme, me, operation, "host")
        case Reach.OWN if "{" in operation:
            others = CASES[operation].thing(at_acme, at_acme.peer)
            assert outcome(send(at_acme.client_of(me), operation, at_acme, thing=others)) == "not_found"


# Nobody: who has no token, or one that is not valid

Secret = Callable[[Organisation], str | None]


def expired(at: Organisation) -> str:
    return at.token_of(at.add("owner"), expiry=timezone.now() - timedelta(seconds=1))


def ended(at: Organisation) -> str:
    owner = at.add("owner")
    secret = at.token_of(owner)
    with tenant_context(at.tenant):
        AuthToken.objects.filter(user=owner).delete()
    return secret


def of_an_inactive_user(at: Organisation) -> str:
    return at.token_of(at.add("owner", is_active=False))


NOBODIES: list[Secret] = [lambda at: None, lambda at: "0" * 64, expired, ended, of_an_inactive_user]


@each_way
@each_operation
def test_nobody_gets_what_the_table_says(at_acme: Organisation, operation: str, way: str) -> None:
    secrets = [make(at_acme) for make in NOBODIES]
    thing = CASES[operation].thing(at_acme, at_acme.peer)
    before = at_acme.contents()
    for secret in secrets:
        answer = send(at_acme.client(secret, way), operation, at_acme, thing=thing)
        if reach(operation, "nobody") is Reach.YES:
            assert outcome(answer) == "yes"
            continue
        expected = "not_authenticated" if secret is None else "invalid_token"
        assert (answer.status_code, outcome(answer)) == (401, expected)
        assert at_acme.contents() == before


@each_operation
def test_the_staff_s_session_is_nobody_s(at_acme: Organisation, operation: str) -> None:
    """Who is logged in to the admin, on the public host, is nobody to an organisation."""
    staff = User.objects.create_superuser(email="root@localhost.example", full_name="Root", password=PASSWORD)
    client = at_acme.client(None)
    client.force_login(staff)
    thing = CASES[operation].thing(at_acme, at_acme.peer)
    expected = "yes" if reach(operation, "nobody") is Reach.YES else "not_authenticated"
    assert outcome(send(client, operation, at_acme, thing=thing)) == expected


NOT_SERVED = ("suspended", "deleting", "provisioning", "failed")


@each_way
@each_operation
def test_an_organisation_that_is_not_served(at_acme: Organisation, operation: str, way: str) -> None:
    client = at_acme.client_of(at_acme.add("owner"), way)
    thing = CASES[operation].thing(at_acme, at_acme.peer)
    for status in NOT_SERVED:
        Tenant.objects.filter(pk=at_acme.tenant.pk).update(status=status)
        expected = "yes" if answered_by_public_host(operation, way) else f"tenant_{status}"
        answer = send(client, operation, at_acme, thing=thing)
        assert outcome(answer) == expected
        if not answered_by_public_host(operation, way):
            url = url_of(operation, thing)
            assert {client.head(url).status_code, client.options(url).status_code} == {answer.status_code}


# The other methods of an address


@pytest.mark.parametrize("path", PATHS)
def test_whoever_may_use_nothing_of_an_address_learns_nothing_of_it(at_acme: Organisation, path: str) -> None:
    here = [operation for operation in OPERATIONS if operation.partition(" ")[2] == path]
    offered = {operation.partition(" ")[0] for operation in here}
    url = url_of(here[0], CASES[here[0]].thing(at_acme, at_acme.peer))
    for role in ROLES:
        secret = None if role == "nobody" else at_acme.token_of(at_acme.add(role))
        client = at_acme.client(secret, "header")
        refusal = "not_authenticated" if role == "nobody" else "permission_denied"
        is_known = any(reach(operation, role) is not Reach.NO for operation in here)
        # A page in HTML has no metadata.
        options = "method_not_allowed" if path == "/docs/" else "yes"
        assert outcome(client.options(url)) == (options if is_known else refusal)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "LIST", "TRACE"} - offered:
            found = outcome(client.generic(method, url))
            assert found == ("method_not_allowed" if is_known else refusal), method


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name.startswith("GET ")])
def test_a_head_is_a_get(at_acme: Organisation, operation: str) -> None:
    thing = CASES[operation].thing(at_acme, at_acme.peer)
    url = url_of(operation, thing)
    for role in ROLES:
        secret = None if role == "nobody" else at_acme.token_of(at_acme.add(role))
        client = at_acme.client(secret, "header")
        assert client.head(url).status_code == client.get(url).status_code


# Who manages whom


@pytest.mark.parametrize("role", User.Role.values)
@pytest.mark.parametrize("actor", User.Role.values)
def test_whom_a_role_manages(at_acme: Organisation, actor: str, role: str) -> None:
    at_acme.add("owner")
    client = at_acme.client_of(at_acme.add(actor))
    person = {"email": "ian@acme.example", "full_name": "Ian Ink", "password": PASSWORD, "role": role}
    assert client.post(USERS, person).status_code == (201 if role in MANAGES[actor] else 403)
    for before in User.Role.values:
        changed = client.patch(f"{USERS}{at_acme.add(before).pk}/", {"role": role})
        is_allowed = {before, role} <= MANAGES[actor]
        refusal = 404 if reach("PATCH /users/{id}/", actor) is Reach.OWN else 403
        assert changed.status_code == (200 if is_allowed else refusal)


@pytest.mark.parametrize("change", [{"role": "owner"}, {"role": "member"}, {"is_active": True}])
def test_nobody_whom_the_table_gives_their_own_alone_changes_their_rights(
    at_acme: Organisation, change: dict[str, object]
) -> None:
    me = at_acme.add("member")
    answer = at_acme.client_of(me).patch(f"{USERS}{me.pk}/", change)
    assert (answer.status_code, outcome(answer)) == (403, "permission_denied")
    assert at_acme.client_of(me).patch(f"{USERS}me/", change).status_code == 400


# The page that shows it


@pytest.mark.skipif(not apps.is_installed("billing"), reason="the page has its rows")
def test_the_page_shows_the_table() -> None:
    page = (CHECKOUT / "docs/reference/permissions.md").read_text()
    rows = [[f"`{operation}`", *row] for operation, row in TABLE.items()]
    for actor, managed in MANAGES.items():
        rows.append([f"`{actor}`", ", ".join(f"`{role}`" for role in ROLES if role in managed)])
    shown = [line for line in page.splitlines() if line.startswith("| `")]
    assert shown == [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
