"""Nothing that a client of acme sends reads or changes what globex has: each id, parameter, header and key is tried."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django_tenants.utils import tenant_context

from accounts.models import User
from config.permissions import TABLE, Reach
from idempotency.services import REPLAYED
from tenants.ids import new_id
from tests.isolation.cases import CASES, FILTERS, HEADERS, IGNORED, PAGING
from tests.isolation.organisations import WAYS, Organisation
from tests.isolation.router import LISTS, OPERATIONS, described, outcome, parameters, send, url_of
from tests.people import PASSWORD

#: Those that need a token. What the others show is for anybody.
CLOSED = [operation for operation, row in TABLE.items() if row.nobody is Reach.NO]
READS = [operation for operation in CLOSED if operation.startswith("GET ")]
KEYED = [
    operation
    for operation in CLOSED
    if "Idempotency-Key" in [parameter["name"] for parameter in described(operation).get("parameters", [])]
]


def leaks(answer: Any, of: Organisation, *, sent: str = "") -> set[str]:
    """What an answer tells of an organisation that the client did not say itself."""
    told = f"{answer.content.decode()} {dict(answer.items())}".lower()
    return {mark for mark in of.marks() if mark in told and mark not in sent.lower()}


def rows_of(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.content
    rows: list[dict[str, Any]] = answer.json()["results"]
    return rows


# Ids in paths


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", [operation for operation in CLOSED if "{" in operation])
def test_what_another_tenant_has_is_not_there(
    at_acme: Organisation, at_globex: Organisation, operation: str, way: str
) -> None:
    theirs = CASES[operation].thing(at_globex, at_globex.peer)
    before = at_globex.contents()
    for role in ("member", "admin", "owner"):
        client = at_acme.client_of(at_acme.add(role), way)
        found = send(client, operation, at_acme, thing=theirs)
        of_nobody = send(client, operation, at_acme, thing=str(new_id()))
        refusal = "permission_denied" if getattr(TABLE[operation], role) is Reach.NO else "not_found"
        assert outcome(found) == refusal
        assert (found.status_code, found.json()) == (of_nobody.status_code, of_nobody.json())
        assert leaks(found, at_globex, sent=theirs) == set()
    assert at_globex.contents() == before


@pytest.mark.parametrize("operation", READS)
def test_what_a_tenant_reads_names_no_other(at_acme: Organisation, at_globex: Organisation, operation: str) -> None:
    CASES[operation].thing(at_globex, at_globex.peer)
    for role in ("member", "admin", "owner"):
        me = at_acme.add(role)
        answer = send(at_acme.client_of(me), operation, at_acme, thing=CASES[operation].thing(at_acme, me))
        assert leaks(answer, at_globex) == set()


# Queries


@pytest.mark.parametrize(
    ("operation", "name"), [(operation, name) for operation in LISTS for name in sorted(parameters(operation) - PAGING)]
)
def test_no_filter_finds_what_another_tenant_has(
    at_acme: Organisation, at_globex: Organisation, operation: str, name: str
) -> None:
    case, url = CASES[operation], url_of(operation)
    case.thing(at_acme, at_acme.peer)
    case.thing(at_globex, at_globex.peer)
    as_gus, as_ada = (at.client_of(at.add("owner")) for at in (at_globex, at_acme))
    [*_, row] = rows_of(as_gus.get(url))
    value = FILTERS[name](at_globex, row)

    assert row["id"] in [found["id"] for found in rows_of(as_gus.get(url, {name: value}))]
    answer = as_ada.get(url, {name: value})

    everything = {found["id"] for found in rows_of(as_ada.get(url))}
    assert {found["id"] for found in rows_of(answer)} <= everything
    assert leaks(answer, at_globex, sent=value) == set()


@pytest.mark.parametrize("operation", LISTS)
def test_no_cursor_leads_into_another_tenant(at_acme: Organisation, at_globex: Organisation, operation: str) -> None:
    case, url = CASES[operation], url_of(operation)
    for at in (at_globex, at_acme, at_globex, at_acme):
        case.thing(at, at.add("member"))
    as_gus, as_ada = (at.client_of(at.add("owner")) for at in (at_globex, at_acme))
    everything = {row["id"] for row in rows_of(as_ada.get(url))}
    assert len(everything) > 1

    for query in _orderings(operation):
        first = as_gus.get(url, {"page_size": "1", **query}).json()
        second = as_gus.get(first["next"]).json()
        for link in (first["next"], second["previous"]):
            assert "globex" in link
            page = as_ada.get(url, {name: value for name, [value] in parse_qs(urlsplit(link).query).items()})
            assert {row["id"] for row in rows_of(page)} <= everything
            assert leaks(page, at_globex) == set()


def _orderings(operation: str) -> list[dict[str, str]]:
    named = {one["name"]: one["schema"] for one in described(operation)["parameters"]}
    orders = named["ordering"]["enum"] if "ordering" in named else []
    return [{}, *({"ordering": order} for order in orders)]


# Bodies


@pytest.mark.parametrize("operation", [operation for operation, case in CASES.items() if case.body])
def test_no_field_of_a_body_names_another_tenant(
    at_acme: Organisation, at_globex: Organisation, operation: str
) -> None:
    body = CASES[operation].body
    assert body is not None
    globex, theirs = at_globex.tenant, str(at_globex.peer.pk)
    fields = {"tenant": "globex", "tenant_id": str(globex.pk), "schema_name": globex.schema_name, "slug": "globex"}
    fields |= {"organisation": "globex", "domain": "globex.localhost", "domain_url": "globex.localhost"}
    fields |= {"id": theirs, "pk": theirs, "user": theirs, "user_id": theirs, "placed_by": theirs, "created_by": theirs}
    before = at_globex.contents()
    for name, value in fields.items():
        client = at_acme.client_of(at_acme.add("owner"))
        sent = body(at_acme)
        if name in sent:
            continue
        thing = CASES[operation].thing(at_acme, at_acme.peer)
        answer = send(client, operation, at_acme, thing=thing, body={**sent, name: value})
        assert (answer.status_code, outcome(answer)) == (400, "invalid"), name
        assert f"#/{name}" in [error["pointer"] for error in answer.json()["errors"]]
    assert at_globex.contents() == before


# Tokens


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", CLOSED)
def test_a_token_serves_in_its_tenant_alone(
    at_acme: Organisation, at_globex: Organisation, operation: str, way: str
) -> None:
    """Also if both have a user of this id and role."""
    for role in ("member", "admin", "owner"):
        me = at_acme.add(role)
        at_globex.add(role, id=me.pk)
        secret = at_acme.token_of(me)
        theirs = CASES[operation].thing(at_globex, at_globex.peer)
        before = at_globex.contents()
        answer = send(at_globex.client(secret, way), operation, at_globex, thing=theirs)
        assert (answer.status_code, outcome(answer)) == (401, "invalid_token")
        assert leaks(answer, at_globex, sent=theirs) == set()
        assert at_globex.contents() == before


def test_credentials_serve_in_their_tenant_alone(at_acme: Organisation, at_globex: Organisation) -> None:
    gus = at_globex.add("owner")
    answer = at_acme.client(None).post("/api/v1/tokens/", {"email": gus.email, "password": PASSWORD})
    assert (answer.status_code, outcome(answer)) == (401, "wrong_credentials")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", ["POST /confirmations/", "POST /passwords/"])
def test_a_link_serves_in_its_tenant_alone(
    at_acme: Organisation, at_globex: Organisation, operation: str, way: str
) -> None:
    body = CASES[operation].body
    assert body is not None
    theirs = body(at_globex)
    before = at_globex.contents()
    answer = send(at_acme.client(None, way), operation, at_acme, body=theirs)
    assert (answer.status_code, outcome(answer)) == (409, "dead_link")
    assert at_globex.contents() == before
    assert outcome(send(at_globex.client(None, way), operation, at_globex, body=theirs)) == "yes"


# Headers


@pytest.mark.parametrize("header", [*HEADERS, *IGNORED])
def test_no_header_leads_to_another_tenant(at_acme: Organisation, at_globex: Organisation, header: str) -> None:
    secret, theirs = at_globex.token_of(at_globex.add("owner")), at_globex.contents()
    for value in {**HEADERS, **IGNORED}[header]:
        me = at_acme.add("owner")
        mine = at_acme.token_of(me)
        sent = value.format(secret=secret, mine=mine)
        for way in WAYS:
            for operation in ("GET /users/", "GET /users/me/", "PATCH /organisation/"):
                answer = send(at_acme.client(mine, way), operation, at_acme, headers={header: sent})
                assert leaks(answer, at_globex, sent=sent) == set(), (value, way)
                if header in IGNORED:
                    assert outcome(answer) == "yes", (value, way)
                if operation == "GET /users/me/" and answer.status_code == 200:
                    assert answer.json()["email"] == me.email
    assert at_globex.contents() == theirs


@pytest.mark.parametrize("operation", ["GET /users/me/", "PATCH /organisation/"])
def test_a_host_and_a_header_that_disagree_lead_to_neither(
    at_acme: Organisation, at_globex: Organisation, operation: str
) -> None:
    """Whosever token it is."""
    for at in (at_acme, at_globex):
        secret = at.token_of(at.add("owner"))
        answer = send(at_acme.client(secret), operation, at_acme, headers={"tenant": "globex"})
        assert (answer.status_code, outcome(answer)) == (400, "tenant_mismatch")


HOSTS = ["globex.localhost", "GLOBEX.localhost", "Globex.LocalHost", "globex.localhost.", "globex.localhost:8000"]
HOSTS += ["globex.localhost.:80", "globex.localhost:", "acme.globex.localhost", "globex.acme.localhost"]
HOSTS += ["acme.localhost@globex.localhost", "globex.localhost/acme.localhost", "acme.localhost,globex.localhost"]
HOSTS += ["acme.localhost, globex.localhost", "globex.localhost#.acme.localhost", "globex.localhost\\.acme.localhost"]
HOSTS += ["\uff47lobex.localhost", "globex%2elocalhost", "globex\u3002localhost", "127.0.0.1", "[::1]", "localhost"]


@pytest.mark.parametrize("host", HOSTS)
def test_no_host_leads_to_another_tenant(at_acme: Organisation, at_globex: Organisation, host: str) -> None:
    client = at_acme.client_of(at_acme.add("owner"))
    before = at_globex.contents()
    for operation in ("GET /users/", "GET /users/me/", "PATCH /organisation/"):
        answer = send(client, operation, at_acme, headers={"host": host})
        assert outcome(answer) in {"invalid_token", "bad_host", "tenant_not_found", "not_found"}
        assert leaks(answer, at_globex, sent=f"{host} globex") == set()
    assert at_globex.contents() == before


@pytest.mark.parametrize("host", ["ACME.localhost", "Acme.LocalHost", "acme.localhost.", "acme.localhost:8000"])
def test_however_its_host_is_spelt_a_tenant_is_itself(
    at_acme: Organisation, at_globex: Organisation, host: str
) -> None:
    me = at_acme.add("owner")
    answer = at_acme.client_of(me).get("/api/v1/users/me/", headers={"host": host})
    assert answer.json()["email"] == me.email


# What a client has already


@pytest.mark.parametrize("operation", READS)
def test_no_tag_of_another_tenant_s_answer_is_ours(
    at_acme: Organisation, at_globex: Organisation, operation: str
) -> None:
    tags: list[dict[str, str]] = []
    for at in (at_globex, at_acme):
        owner = at.add("owner")
        thing = CASES[operation].thing(at, owner)
        answers = [send(at.client_of(owner), operation, at, thing=thing, headers=tag) for tag in ({}, *tags)]
        assert [answer.status_code for answer in answers] == [200] * len(answers)
        tags.append({"if-none-match": answers[0]["ETag"]})
        nobody = send(at.client(None), operation, at, thing=thing, headers=tags[-1])
        assert (nobody.status_code, outcome(nobody)) == (401, "not_authenticated")
    assert tags[0] != tags[1]


@pytest.mark.parametrize("operation", [one for one in LISTS if Reach.OWN in TABLE[one]])
def test_no_tag_of_another_user_s_answer_is_theirs(at_acme: Organisation, operation: str) -> None:
    owner, me = at_acme.add("owner"), at_acme.add("member")
    own, _ = (CASES[operation].thing(at_acme, user) for user in (me, at_acme.peer))
    tag = send(at_acme.client_of(owner), operation, at_acme)["ETag"]
    answer = send(at_acme.client_of(me), operation, at_acme, headers={"if-none-match": tag})
    assert [row["id"] for row in rows_of(answer)] == [own]


# Kept responses

KEY = {"idempotency-key": "tea for two"}


@pytest.mark.parametrize("operation", KEYED)
def test_no_key_of_another_tenant_finds_its_response(
    at_acme: Organisation, at_globex: Organisation, operation: str
) -> None:
    """Though the same person, by id, sends the same body with the same key."""
    case = CASES[operation]
    assert case.body is not None
    gus = at_globex.add("owner")
    me = at_acme.add("owner", id=gus.pk)
    body = case.body(at_globex)
    theirs = send(
        at_globex.client_of(gus), operation, at_globex, thing=case.thing(at_globex, gus), body=body, headers=KEY
    )
    assert outcome(theirs) == "yes"

    answer = send(at_acme.client_of(me), operation, at_acme, thing=case.thing(at_acme, me), body=body, headers=KEY)

    assert (outcome(answer), REPLAYED in answer) == ("yes", False)
    assert leaks(answer, at_globex, sent=str(gus.pk)) == set()


@pytest.mark.parametrize("operation", KEYED)
def test_no_key_of_another_user_finds_their_response(at_acme: Organisation, operation: str) -> None:
    case = CASES[operation]
    assert case.body is not None
    first, second = at_acme.add("owner"), at_acme.add("owner")
    body, thing = case.body(at_acme), case.thing(at_acme, first)
    theirs = send(at_acme.client_of(first), operation, at_acme, thing=thing, body=body, headers=KEY)
    assert outcome(theirs) == "yes"

    answer = send(at_acme.client_of(second), operation, at_acme, thing=thing, body=body, headers=KEY)

    assert REPLAYED not in answer
    assert outcome(answer) in {"yes", "email_taken", "payment_in_progress"}
    assert theirs.json().get("id", "none") not in answer.content.decode()


def test_the_key_of_a_sign_up_tells_what_anybody_may_read(at_acme: Organisation) -> None:
    client, operation = at_acme.client(None), "POST /tenants/"
    body = CASES[operation].body
    assert body is not None
    sent = body(at_acme)
    first = send(client, operation, at_acme, body=sent, headers=KEY)
    assert outcome(first) == "yes"
    for changes in (
        {"password": "another horse battery"},
        {"email": "guess@initech.example"},
        {"full_name": "A Guess"},
    ):
        answer = send(client, operation, at_acme, body={**sent, "owner": {**sent["owner"], **changes}}, headers=KEY)
        assert (answer.status_code, answer.content) == (first.status_code, first.content)
    other = send(client, operation, at_acme, body={**sent, "name": "Other"}, headers=KEY)
    assert (other.status_code, outcome(other)) == (422, "idempotency_key_reused")


def test_who_has_left_finds_no_response_with_their_key(at_acme: Organisation) -> None:
    """A kept response is for who may still send the request."""
    me = at_acme.add("admin")
    body = CASES["POST /users/"].body
    assert body is not None
    sent = body(at_acme)
    client = at_acme.client_of(me)
    assert outcome(send(client, "POST /users/", at_acme, body=sent, headers=KEY)) == "yes"
    with tenant_context(at_acme.tenant):
        User.objects.filter(pk=me.pk).update(role="member")
    assert outcome(send(client, "POST /users/", at_acme, body=sent, headers=KEY)) == "permission_denied"
    with tenant_context(at_acme.tenant):
        User.objects.filter(pk=me.pk).update(role="admin", is_active=False)
    assert outcome(send(client, "POST /users/", at_acme, body=sent, headers=KEY)) == "invalid_token"


def test_all_is_tried() -> None:
    assert set(CLOSED) < OPERATIONS.keys()
    assert "POST /users/" in KEYED
    assert len(LISTS) > 2
