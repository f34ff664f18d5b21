"""How many passwords may be set: one counts once it is about to be hashed, for its user and for the organisation."""

from collections.abc import Callable
from typing import Any

import pytest
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from accounts.models import User
from tenants.models import Tenant
from tests.limits.conftest import Clock
from tests.limits.test_requests import default_rates
from tests.people import PASSWORD, add_user, at_once, client_of

ME = "/api/v1/users/me/"
USERS = "/api/v1/users/"
NEW = "another horse battery"
Rates = Callable[..., None]
Clients = dict[str, APIClient]

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def people(acme: Tenant) -> Clients:
    roles = {"ada": "owner", "amy": "owner", "alan": "member", "axel": "member"}
    return {name: client_of(acme, add_user(acme, name, role)) for name, role in roles.items()}


def change(client: APIClient, **fields: Any) -> Any:
    """To the password that the user has, so that the same request serves again."""
    return client.patch(ME, {"password": PASSWORD, "old_password": PASSWORD, **fields})


def create(client: APIClient, name: str, *, key: str | None = None, **fields: Any) -> Any:
    body = {"email": f"{name}@acme.example", "full_name": name.title(), "role": "member", "password": NEW, **fields}
    return client.post(USERS, body, headers={} if key is None else {"idempotency-key": key})


def policies(answer: Any) -> list[str]:
    """What the answer tells of passwords: each policy with what remains."""
    limits = [limit.rpartition(";")[0] for limit in answer.get("RateLimit", "").split(", ")]
    return [limit for limit in limits if "password" in limit]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("alan", {"old_password": None}),
        ("alan", {"old_password": "wrong"}),
        ("alan", {"old_password": ""}),
        ("alan", {"password": "short"}),
        ("alan", {"full_name": ""}),
        ("alan", {"more": 1}),
        ("ada", {"old_password": "wrong"}),
    ],
)
def test_a_change_that_is_refused_uses_nothing_up(
    people: Clients, rates: Rates, name: str, fields: dict[str, Any]
) -> None:
    rates(password="1/min", user_password="1/min")
    refused = [change(people[name], **fields) for _ in range(3)]
    assert [(answer.status_code, policies(answer)) for answer in refused] == [(400, [])] * 3
    assert change(people[name]).status_code == 200


@pytest.mark.parametrize("body", [{"password": NEW}, {"old_password": PASSWORD}, {"password": [NEW]}, [], "password"])
def test_half_a_change_uses_nothing_up(people: Clients, rates: Rates, body: Any) -> None:
    rates(password="1/min", user_password="1/min")
    assert [people["alan"].patch(ME, body).status_code for _ in range(3)] == [400] * 3
    assert change(people["axel"]).status_code == 200


@pytest.mark.parametrize(
    ("name", "fields", "status"),
    [
        ("alan", {}, 403),
        ("ada", {"password": "short"}, 400),
        ("ada", {"role": "king"}, 400),
        ("ada", {"email": "alan@acme.example"}, 409),
        ("ada", {"password": None}, 400),
    ],
)
def test_a_user_who_is_not_created_uses_nothing_up(
    people: Clients, rates: Rates, name: str, fields: dict[str, Any], status: int
) -> None:
    rates(password="1/min", user_password="1/min")
    assert [create(people[name], "bob", **fields).status_code for _ in range(3)] == [status] * 3
    assert create(people["ada"], "cat").status_code == 201


def test_what_hashes_nothing_uses_nothing_up(people: Clients, acme: Tenant, rates: Rates) -> None:
    with tenant_context(acme):
        alan = User.objects.get(email="alan@acme.example")
    rates(password="1/min", user_password="1/min")
    ada = people["ada"]
    assert ada.post(USERS, {"email": "dan@acme.example", "full_name": "Dan", "role": "member"}).status_code == 201
    assert ada.patch(ME, {"full_name": "Ada"}).status_code == 200
    assert ada.patch(f"{USERS}{alan.pk}/", {"password": NEW}).status_code == 400
    assert ada.put(USERS, {"password": NEW}).status_code == 405
    assert create(ada, "bob", key="1").status_code == 201
    # Sent again, it is not hashed again.
    assert [create(ada, "bob", key="1").status_code for _ in range(3)] == [201] * 3


def test_one_user_has_a_share(people: Clients, rates: Rates, hashed: list[str]) -> None:
    rates(password="3/min", user_password="2/min")
    changed = [change(people["alan"]) for _ in range(2)]
    assert [answer.status_code for answer in changed] == [200, 200]
    hashed.clear()

    refused = [change(people["alan"]) for _ in range(9)]

    assert {answer.status_code for answer in refused} == {429}
    assert hashed == []
    # What was refused counts for nobody.
    assert change(people["axel"]).status_code == 200


def test_an_organisation_sets_so_many(
    people: Clients, globex: Tenant, rates: Rates, clock: Clock, hashed: list[str]
) -> None:
    rates(password="2/min", user_password="2/min")
    assert [create(people["ada"], "bob").status_code, change(people["alan"]).status_code] == [201, 200]
    hashed.clear()

    asked = [create(people["amy"], "cat"), change(people["axel"])]

    assert [(answer.status_code, answer.json()["code"], answer["Retry-After"]) for answer in asked] == [
        (429, "throttled", "60")
    ] * 2
    assert hashed == []
    assert change(client_of(globex, add_user(globex, "gus"))).status_code == 200
    clock.now += 60
    assert create(people["amy"], "cat").status_code == 201


def test_what_an_organisation_refuses_is_no_part_of_a_users_share(people: Clients, rates: Rates, clock: Clock) -> None:
    rates(password="1/min", user_password="1/hour")
    assert change(people["ada"]).status_code == 200
    assert [change(people["axel"]).status_code for _ in range(3)] == [429] * 3
    clock.now += 60
    assert change(people["axel"]).status_code == 200


def test_an_answer_tells_what_is_left(people: Clients, rates: Rates) -> None:
    rates(password="3/min", user_password="2/min")
    answers = [change(people["alan"]) for _ in range(3)]
    assert [policies(answer) for answer in answers] == [
        ['"user_password";r=1', '"password";r=2'],
        ['"user_password";r=0', '"password";r=1'],
        ['"user_password";r=0', '"password";r=0'],
    ]
    assert answers[0]["RateLimit-Policy"].endswith('"user_password";q=2;w=60, "password";q=3;w=60')
    assert policies(people["axel"].get(ME)) == []


def test_many_at_once_do_not_pass_together(
    committed_db: None, acme: Tenant, people: Clients, rates: Rates, hashed: list[str]
) -> None:
    rates(password="5/min", user_password="3/min")
    hashed.clear()
    calls = [lambda by=by, n=n: create(people[by], f"{by}{n}") for by in ("ada", "amy") for n in range(8)]

    answers = at_once(*calls)

    created = [answer.status_code for answer in answers].count(201)
    assert {answer.status_code for answer in answers} == {201, 429}
    assert created == len(hashed) <= 5
    with tenant_context(acme):
        assert User.objects.count() == 4 + created


def test_many_changes_at_once_do_not_pass_together(
    committed_db: None, people: Clients, rates: Rates, hashed: list[str]
) -> None:
    rates(user_password="3/min")
    hashed.clear()

    answers = at_once(*[lambda: change(people["alan"])] * 12)

    # Of those that pass one wins, and the others compared the password that it has replaced.
    assert [answer.status_code for answer in answers].count(429) == 9
    assert len(hashed) == 2 * 3


def test_a_share_is_well_below_what_the_organisation_has() -> None:
    rates = {policy: rate.split("/") for policy, rate in default_rates().items() if "password" in policy}
    assert rates["user_password"][1] == rates["password"][1]
    assert 2 * int(rates["user_password"][0]) < int(rates["password"][0])
