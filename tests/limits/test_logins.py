"""How often a log-in may be tried: through the API, in the admin, and by whatever else asks Django."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from django.conf import settings as config
from django.contrib.auth import aauthenticate, authenticate
from django.test import Client
from django_tenants.utils import tenant_context
from pytest_django import Settings
from rest_framework.exceptions import Throttled
from rest_framework.test import APIClient

from accounts.logins import wait_after
from accounts.models import User
from limits import counts
from limits.counts import Circuit
from tenants.binding import bind_to_public
from tenants.models import Tenant
from tests.limits.conftest import Clock
from tests.people import PASSWORD, add_user, at_once

TRIES = 5
DAY = 24 * 60 * 60
Somewhere = Callable[[], str]
#: Tries a password: `(account, password, address)`
LogIn = Callable[..., Any]


@pytest.fixture(autouse=True)
def _as_shipped(settings: Settings) -> None:
    settings.LOGIN_TRIES = TRIES
    settings.LOGIN_MAX_WAIT = 60
    settings.LOGIN_KNOWN_DAYS = 30


def through_api(account: str, password: str, address: str, *, host: str = "acme.localhost") -> Any:
    client = APIClient(headers={"host": host}, REMOTE_ADDR=address)
    return client.post("/api/v1/tokens/", {"email": account, "password": password})


def in_admin(account: str, password: str, address: str) -> Any:
    client = Client(headers={"host": "localhost"}, REMOTE_ADDR=address)
    return client.post("/admin/login/", {"username": account, "password": password})


@pytest.fixture(autouse=True)
def _no_second_factor(settings: Settings) -> None:
    """It comes after what is limited here."""
    settings.STAFF_SECOND_FACTOR = False


@pytest.fixture(params=[through_api, in_admin], ids=["API", "admin"])
def log_in(request: pytest.FixtureRequest, acme: Tenant) -> LogIn:
    """Either door, with the account `ada@acme.example` behind it."""
    add_user(acme, "ada", "owner")
    User.objects.create_superuser("ada@acme.example", "Ada Staff", PASSWORD)
    log_in: LogIn = request.param
    return log_in


ADA = "ada@acme.example"


def refused(answer: Any) -> bool:
    """Whether the credentials were looked at, and wrong."""
    return answer.status_code == 401 or (answer.status_code == 200 and b"Please enter the correct" in answer.content)


def succeeded(answer: Any) -> bool:
    return answer.status_code in (201, 302)


# One account, from one address and from many


@pytest.mark.parametrize("addresses", ["one", "sixty"])
def test_sixty_wrong_passwords_are_not_sixty_hashes(
    log_in: LogIn, hashed: list[str], somewhere: Somewhere, clock: Clock, addresses: str
) -> None:
    here = somewhere()
    hashed.clear()
    answers = [log_in(ADA, f"wrong {n}", here if addresses == "one" else somewhere()) for n in range(60)]
    assert [refused(answer) for answer in answers] == [True] * (TRIES + 1) + [False] * (60 - TRIES - 1)
    assert hashed == [f"wrong {n}" for n in range(TRIES + 1)]
    for answer in answers[TRIES + 1 :]:
        assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
        assert 1 <= int(answer["Retry-After"]) <= 60
        assert answer["Content-Type"] == "application/problem+json"


def test_so_it_is_with_the_counts_in_redis(
    log_in: LogIn, hashed: list[str], somewhere: Somewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "circuit", Circuit())
    # Redis' time does not stand still, and keeps what earlier tests have counted.
    account = f"{somewhere()}@acme.example"
    hashed.clear()
    statuses = [log_in(account, "wrong", somewhere()).status_code for _ in range(60)]
    assert 429 not in statuses[:TRIES]
    assert statuses.count(429) > 30
    assert len(hashed) == 60 - statuses.count(429)
    with redis.Redis.from_url(config.CACHE_URL) as client:
        keys = list(client.scan_iter(f"{config.REDIS_KEY_PREFIX}limits:login:*"))
        assert len(keys) > 60
        assert -1 not in [client.ttl(key) for key in keys]  # Redis' word for: it never ends


def test_waits_grow_up_to_a_minute(log_in: LogIn, hashed: list[str], somewhere: Somewhere, clock: Clock) -> None:
    hashed.clear()
    waits = []
    for _ in range(8):
        while (answer := log_in(ADA, "wrong", somewhere())).status_code != 429:
            pass
        waits.append(int(answer["Retry-After"]))
        clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    # One try after each wait
    assert len(hashed) == TRIES + 8


def test_who_only_knocks_does_not_lengthen_the_wait(log_in: LogIn, somewhere: Somewhere, clock: Clock) -> None:
    for _ in range(TRIES + 1):
        log_in(ADA, "wrong", somewhere())
    for _ in range(20):
        assert log_in(ADA, "wrong", somewhere())["Retry-After"] == "1"
    clock.now += 1
    assert succeeded(log_in(ADA, PASSWORD, somewhere()))


def test_after_an_hour_nothing_is_held_against_anybody(log_in: LogIn, somewhere: Somewhere, clock: Clock) -> None:
    for _ in range(TRIES + 3):
        log_in(ADA, "wrong", somewhere())
    clock.now += 60 * 60
    assert [refused(log_in(ADA, "wrong", somewhere())) for _ in range(TRIES)] == [True] * TRIES


@pytest.mark.parametrize(("tries", "wait"), [(0, 0), (5, 0), (6, 1), (7, 2), (11, 32), (12, 60), (13, 60), (10**9, 60)])
def test_how_long_a_wait_is(tries: int, wait: int) -> None:
    assert wait_after(tries) == wait


def test_many_tries_at_once_do_not_pass_together(
    committed_db: None, acme: Tenant, hashed: list[str], somewhere: Somewhere, clock: Clock
) -> None:
    add_user(acme, "ada", "owner")
    hashed.clear()
    addresses = [somewhere() for _ in range(12)]
    tries = [lambda address=address: through_api(ADA, "wrong", address).status_code for address in addresses]
    assert sorted(at_once(*tries)) == [401] * (TRIES + 1) + [429] * (12 - TRIES - 1)
    assert len(hashed) == TRIES + 1


# Who is not held up


def test_who_logged_in_from_there_before_need_not_wait_for_others(
    log_in: LogIn, somewhere: Somewhere, clock: Clock
) -> None:
    home = somewhere()
    assert succeeded(log_in(ADA, PASSWORD, home))
    clock.now += 29 * DAY
    for _ in range(20):
        log_in(ADA, "wrong", somewhere())
    assert log_in(ADA, PASSWORD, somewhere()).status_code == 429
    assert succeeded(log_in(ADA, PASSWORD, home))
    # From then on it counts for as long again.
    clock.now += 29 * DAY
    for _ in range(20):
        log_in(ADA, "wrong", somewhere())
    assert succeeded(log_in(ADA, PASSWORD, home))


def test_after_thirty_days_an_address_is_strange_again(log_in: LogIn, somewhere: Somewhere, clock: Clock) -> None:
    home = somewhere()
    assert succeeded(log_in(ADA, PASSWORD, home))
    clock.now += 30 * DAY
    for _ in range(20):
        log_in(ADA, "wrong", somewhere())
    assert log_in(ADA, PASSWORD, home).status_code == 429


@pytest.mark.parametrize("store", ["in Redis", "in memory"])
def test_no_days_know_no_address(
    log_in: LogIn, somewhere: Somewhere, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    # With so few tries, one that failed closes the account for half a minute: Redis has a clock that goes on.
    settings.LOGIN_KNOWN_DAYS, settings.LOGIN_TRIES = 0, -5
    if store == "in Redis":
        monkeypatch.setattr(counts, "circuit", Circuit())
    home = somewhere()
    assert succeeded(log_in(ADA, PASSWORD, home))
    assert refused(log_in(ADA, "wrong", somewhere()))
    assert log_in(ADA, PASSWORD, home).status_code == 429
    assert counts.circuit.closed == (store == "in Redis")


def test_a_known_address_may_not_guess_either(
    log_in: LogIn, hashed: list[str], somewhere: Somewhere, clock: Clock
) -> None:
    home = somewhere()
    assert succeeded(log_in(ADA, PASSWORD, home))
    hashed.clear()
    assert [log_in(ADA, "wrong", home).status_code for _ in range(20)][TRIES + 1 :] == [429] * (20 - TRIES - 1)
    assert len(hashed) == TRIES + 1
    # Somebody elsewhere has nothing to do with it.
    assert succeeded(log_in(ADA, PASSWORD, somewhere()))


def test_an_account_is_known_at_so_many_addresses(log_in: LogIn, somewhere: Somewhere, clock: Clock) -> None:
    many = [somewhere() for _ in range(60)]
    assert all(succeeded(log_in(ADA, PASSWORD, address)) for address in many)
    for _ in range(20):
        log_in(ADA, "wrong", somewhere())
    from_there = [succeeded(log_in(ADA, PASSWORD, address)) for address in many]
    assert from_there == [True] * 50 + [False] * 10


def test_right_passwords_do_not_count(log_in: LogIn, somewhere: Somewhere, clock: Clock) -> None:
    here = somewhere()
    assert all(succeeded(log_in(ADA, PASSWORD, address)) for address in [here] * 20)
    assert all(succeeded(log_in(ADA, PASSWORD, somewhere())) for _ in range(20))


def test_a_success_forgives_the_address_and_not_the_others(
    log_in: LogIn, hashed: list[str], somewhere: Somewhere, clock: Clock
) -> None:
    here = somewhere()
    for _ in range(2):
        assert [refused(log_in(ADA, "wrong", here)) for _ in range(TRIES)] == [True] * TRIES
        clock.now += 60
        assert succeeded(log_in(ADA, PASSWORD, here))
    # The account as a whole was tried TRIES times before `here` was known.
    hashed.clear()
    statuses = [log_in(ADA, "wrong", somewhere()).status_code for _ in range(10)]
    assert statuses.count(429) == 9
    assert len(hashed) == 1


@pytest.mark.django_db
def test_each_account_and_each_organisation_has_its_own(
    acme: Tenant, globex: Tenant, somewhere: Somewhere, clock: Clock
) -> None:
    for name in ("ada", "amy"):
        add_user(acme, name)
    namesake = add_user(globex, "ada")
    with tenant_context(globex):
        User.objects.filter(pk=namesake.pk).update(email=ADA)
    User.objects.create_superuser(ADA, "Ada Staff", PASSWORD)
    for _ in range(20):
        through_api(ADA, "wrong", somewhere())
    assert through_api(ADA, PASSWORD, somewhere()).status_code == 429
    assert through_api("amy@acme.example", PASSWORD, somewhere()).status_code == 201
    assert through_api(ADA, PASSWORD, somewhere(), host="globex.localhost").status_code == 201
    assert in_admin(ADA, PASSWORD, somewhere()).status_code == 302


# No oracle, no way around


def test_an_unknown_account_is_treated_as_a_known_one(
    log_in: LogIn, hashed: list[str], somewhere: Somewhere, clock: Clock
) -> None:
    def play(account: str) -> list[Any]:
        here, told = somewhere(), []
        hashed.clear()
        for n in range(30):
            answer = log_in(account, "wrong", here if n % 2 else somewhere())
            told.append((answer.status_code, answer.get("Retry-After"), answer.get("RateLimit"), len(hashed)))
            clock.now += n % 4
        return told

    assert play("nobody@acme.example") == play(ADA)


@pytest.mark.parametrize("state", [{"is_active": False}, {"role": "member"}])
def test_so_is_one_that_may_not_log_in(
    acme: Tenant, hashed: list[str], somewhere: Somewhere, clock: Clock, state: dict[str, Any]
) -> None:
    add_user(acme, "abe", **state)
    statuses = [through_api("abe@acme.example", "wrong", somewhere()).status_code for _ in range(10)]
    assert statuses == [401] * (TRIES + 1) + [429] * (10 - TRIES - 1)


def test_another_spelling_is_no_other_account(
    acme: Tenant, hashed: list[str], somewhere: Somewhere, clock: Clock
) -> None:
    """Among them letters that PostgreSQL's lower() turns into those of the account."""
    add_user(acme, "nikki")
    spellings = ["nikki", "NIKKI", "Nikki", "n\u0130kki", "ni\u212aki", "N\u0130K\u212a\u0130", " nikki"]
    domains = ["acme.example", "ACME.Example", "Acme.EXAMPLE"]
    accounts = [f"{name}@{domain}" for domain in domains for name in spellings]
    hashed.clear()
    for account in accounts:
        through_api(account, "wrong", somewhere())
    assert len(hashed) == TRIES + 1


def test_no_spelling_breaks_it(acme: Tenant, somewhere: Somewhere, clock: Clock) -> None:
    for account in ["\u0000", "@", "a" * 254, "x@y@z", "\U0010ffff", "\u202e@acme.example", "\u0430@acme.example"]:
        answers = [through_api(account, "wrong", somewhere()) for _ in range(TRIES + 2)]
        assert answers[0].status_code in (400, 401), account
        assert answers[-1].status_code in (400, 429), account


def test_code_that_asks_django_is_limited_too(acme: Tenant, hashed: list[str], clock: Clock) -> None:
    add_user(acme, "ada")
    hashed.clear()
    with tenant_context(acme):
        for _ in range(TRIES + 1):
            assert authenticate(email=ADA, password="wrong") is None
        with pytest.raises(Throttled):
            authenticate(username=ADA, password=PASSWORD)
    assert len(hashed) == TRIES + 1


@pytest.mark.django_db
def test_so_is_code_that_asks_it_asynchronously(hashed: list[str], clock: Clock) -> None:
    async def ask() -> None:
        for _ in range(TRIES + 1):
            assert await aauthenticate(email=ADA, password="wrong") is None
        with pytest.raises(Throttled):
            await aauthenticate(email=ADA, password="wrong")

    bind_to_public()
    async_to_sync(ask)()
    assert len(hashed) == TRIES + 1


def test_an_address_may_not_try_many_accounts(
    log_in: LogIn, hashed: list[str], rates: Callable[..., None], somewhere: Somewhere, clock: Clock
) -> None:
    rates(login="3/min")
    here = somewhere()
    hashed.clear()
    answers = [log_in(f"somebody{n}@acme.example", "wrong", here) for n in range(6)]
    assert [answer.status_code == 429 for answer in answers] == [False] * 3 + [True] * 3
    assert answers[-1]["Retry-After"] == "60"
    assert len(hashed) == 3
    # What is no log-in at all does not count.
    assert not refused(log_in(ADA, "", here))
    clock.now += 60
    assert refused(log_in(ADA, "wrong", here))


# What the operator sees


def test_failures_and_waits_are_logged(
    log_in: LogIn, somewhere: Somewhere, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    here = somewhere()
    for _ in range(TRIES + 2):
        log_in(ADA, "wrong", here)
    told: list[Any] = [record for record in caplog.records if record.name == "tenantry.logins"]
    assert {(record.account, record.address, record.levelname) for record in told} == {(ADA, here, "WARNING")}
    assert [record.message for record in told] == ["log-in failed"] * (TRIES + 1) + ["log-in throttled"]
    assert "wrong" not in caplog.text
