"""How often one may ask: by address before anything is looked up, then by user and organisation."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings
from pytest_django import Settings
from rest_framework.test import APIClient

from devstack import CHECKOUT
from limits import counts
from limits.stores import OwnCounts
from tenants.ids import new_id
from tenants.models import Tenant
from tests.limits.conftest import Clock
from tests.people import add_user, client_of
from tests.wire import commands

ME = "/api/v1/users/me/"
Rates = Callable[..., None]
Somewhere = Callable[[], str]
MADE_UP = "Bearer " + "a" * 64


def stranger(address: str, host: str = "acme.localhost", **headers: str) -> APIClient:
    return APIClient(headers={"host": host, **headers}, REMOTE_ADDR=address)


def statuses(client: APIClient, path: str, *, times: int = 3, headers: dict[str, str] | None = None) -> list[int]:
    return [client.get(path, headers=headers).status_code for _ in range(times)]


# By address


@pytest.mark.parametrize(
    ("path", "host", "headers", "status"),
    [
        (ME, "acme.localhost", {}, 401),
        (ME, "acme.localhost", {"authorization": MADE_UP}, 401),
        (ME, "acme.localhost", {"authorization": "Bearer x"}, 401),
        (ME, "acme.localhost", {"authorization": "Basic YTpi"}, 401),
        (ME, "localhost", {"tenant": "acme", "authorization": MADE_UP}, 401),
        (ME, "nobody.localhost", {"authorization": MADE_UP}, 404),
        (ME, "elsewhere.example", {}, 400),
        ("/api/v1/nothing/", "acme.localhost", {}, 404),
        ("/api/v1/schema/", "acme.localhost", {}, 200),
        ("/api/v1/docs/", "localhost", {"accept": "text/html"}, 200),
        ("/api/v1/tenants/acme/", "localhost", {}, 200),
        ("/problems/", "acme.localhost", {}, 200),
        ("/admin/login/", "localhost", {}, 200),
        ("/nothing", "acme.localhost", {}, 404),
    ],
)
def test_an_address_is_limited_whatever_it_asks_and_sends(
    acme: Tenant, rates: Rates, somewhere: Somewhere, path: str, host: str, headers: dict[str, str], status: int
) -> None:
    rates(address="2/day")
    client = stranger(somewhere(), host)
    assert statuses(client, path, headers=headers) == [status, status, 429]
    # Somebody else's count is their own.
    assert stranger(somewhere(), host).get(path, headers=headers).status_code == status


def test_beyond_the_limit_nothing_is_asked_of_the_database(
    acme: Tenant, rates: Rates, somewhere: Somewhere, django_assert_num_queries: Callable[[int], Any]
) -> None:
    rates(address="1/day")
    client = stranger(somewhere(), authorization=MADE_UP)
    client.get(ME)
    with django_assert_num_queries(0):
        answers = [client.get(ME), client.post("/api/v1/tokens/", {}), client.get("/api/v1/", headers={"host": "x.y"})]
    assert [answer.status_code for answer in answers] == [429, 429, 429]


def test_a_refusal_says_when_to_come_back(acme: Tenant, rates: Rates, somewhere: Somewhere, clock: Clock) -> None:
    rates(address="1/min")
    client = stranger(somewhere())
    client.get(ME)
    clock.now += 20
    answer = client.get(ME)
    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (429, "throttled", "40")
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["RateLimit-Policy"] == '"address";q=1;w=60'
    assert answer["RateLimit"] == '"address";r=0;t=40'
    clock.now += 40
    assert client.get(ME).status_code == 401


def test_a_browser_of_another_origin_can_read_it(acme: Tenant, rates: Rates, somewhere: Somewhere) -> None:
    rates(address="0/day")
    origin = "https://app.example.com"
    with override_settings(CORS_ALLOWED_ORIGINS=[origin]):
        client = stranger(somewhere(), origin=origin)
        assert client.get(ME)["Access-Control-Allow-Origin"] == origin
        asked = {"access-control-request-method": "GET"}
        assert [client.options(ME, headers=asked).status_code for _ in range(2)] == [200, 200]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/static/admin/css/base.css"])
def test_health_and_files_are_not_counted(rates: Rates, somewhere: Somewhere, path: str) -> None:
    rates(address="0/day")
    client = stranger(somewhere(), "localhost")
    answers = [client.get(path) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    for answer in answers:
        answer.close()


@pytest.mark.parametrize("address", ["2001:db8:7::1", "2001:db8:7::2", "2001:db8:7:0:8000::"])
def test_a_network_of_ipv6_is_one_client(acme: Tenant, rates: Rates, clock: Clock, address: str) -> None:
    rates(address="1/day")
    assert stranger("2001:db8:7::ffff").get(ME).status_code == 401
    assert stranger(address).get(ME).status_code == 429
    assert stranger("2001:db8:8::ffff").get(ME).status_code == 401


def test_a_request_is_counted_by_one_command(acme: Tenant, rates: Rates, somewhere: Somewhere) -> None:
    """Scripts of Redis; what they do there is no round trip."""
    ann = client_of(acme, add_user(acme, "ann"))
    rates(address="100/day", user="100/day", tenant="100/day", password="100/day")
    bad = stranger(somewhere(), authorization=MADE_UP)
    asked: list[Callable[[], Any]] = [
        lambda: ann.get(ME),
        lambda: ann.patch(ME, {"password": "short"}),
        lambda: bad.get(ME),
    ]
    for ask in asked:
        ask()
        with commands("limits:") as sent:
            ask()
        assert [command.split()[0] for command in sent].count("EVALSHA") == 1


def test_an_address_that_must_wait_costs_redis_nothing(acme: Tenant, rates: Rates, somewhere: Somewhere) -> None:
    rates(address="1/day")
    client = stranger(somewhere(), authorization=MADE_UP)
    client.get(ME)
    with commands("limits:") as sent:
        assert statuses(client, ME) == [429, 429, 429]
    assert sent == []


def test_what_many_processes_count_adds_up(acme: Tenant, rates: Rates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each remembers for itself that an address must wait, and finds out by the first request that it takes."""
    rates(address="4/day")
    client = stranger(str(new_id()))
    answered = []
    for _ in range(3):
        monkeypatch.setattr(counts, "own", OwnCounts())
        answered.append(statuses(client, ME))
    assert answered == [[401, 401, 401], [401, 429, 429], [401, 429, 429]]


def test_what_a_role_forbids_counts_for_the_address(acme: Tenant, rates: Rates, somewhere: Somewhere) -> None:
    alan = client_of(acme, add_user(acme, "alan"))
    alan.defaults["REMOTE_ADDR"] = somewhere()
    rates(address="2/day", user="100/day")
    assert statuses(alan, "/api/v1/jobs/") == [403, 403, 429]


# By user and organisation


def test_many_users_share_an_address(acme: Tenant, rates: Rates, somewhere: Somewhere) -> None:
    address = somewhere()
    people = [client_of(acme, add_user(acme, name)) for name in ("ann", "bob", "cat")]
    rates(address="1/day", user="2/day")
    for client in people:
        client.defaults["REMOTE_ADDR"] = address
        answers = [client.get(ME) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        # What was given back is not told.
        assert {answer["RateLimit-Policy"] for answer in answers} == {'"user";q=2;w=86400'}
    assert statuses(stranger(address), ME, times=2) == [401, 429]


def test_a_user_is_limited_wherever_they_are(acme: Tenant, rates: Rates, somewhere: Somewhere) -> None:
    ann = client_of(acme, add_user(acme, "ann"))
    rates(user="2/day")
    answers = [ann.get(ME, REMOTE_ADDR=somewhere()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert client_of(acme, add_user(acme, "bob")).get(ME).status_code == 200


def test_an_organisation_is_limited_as_a_whole(acme: Tenant, globex: Tenant, rates: Rates, clock: Clock) -> None:
    people = [client_of(acme, add_user(acme, name)) for name in ("ann", "bob", "cat")]
    rates(user="2/day", tenant="2/day")
    assert [client.get(ME).status_code for client in people] == [200, 200, 429]
    assert client_of(globex, add_user(globex, "gus")).get(ME).status_code == 200


def test_the_longest_wait_is_told(acme: Tenant, rates: Rates, clock: Clock) -> None:
    ann = client_of(acme, add_user(acme, "ann"))
    rates(user="1/min", tenant="1/hour")
    ann.get(ME)
    refused = ann.get(ME)
    assert (refused.status_code, refused["Retry-After"]) == (429, "3600")
    assert refused["RateLimit"] == '"user";r=0;t=60, "tenant";r=0;t=3600'


def test_sign_ups_have_a_rate_of_their_own(acme: Tenant, rates: Rates, somewhere: Somewhere) -> None:
    rates(sign_up="1/day", address="100/day")
    client = stranger(somewhere(), "localhost")
    assert [client.post("/api/v1/tenants/", {}).status_code for _ in range(2)] == [400, 429]
    # Who waits for a sign-up to be done may ask how far it is.
    assert client.get("/api/v1/tenants/acme/").status_code == 200


def test_a_made_up_address_changes_nothing(
    acme: Tenant, rates: Rates, somewhere: Somewhere, settings: Settings
) -> None:
    settings.NUM_PROXIES = 0
    rates(address="1/day")
    client = stranger(somewhere())
    asked = [client.get(ME, headers={"x-forwarded-for": f"192.0.2.{n}"}) for n in range(2)]
    assert [answer.status_code for answer in asked] == [401, 429]


# As shipped


def test_the_default_rates_let_the_polling_of_the_documents_through() -> None:
    """Each loop of how to call the API, by one client, with a token or without."""
    pauses = re.findall(r"sleep ([0-9.]+)", (CHECKOUT / "docs/how-to/call-the-api.md").read_text())
    assert len(pauses) >= 3
    polled_a_minute = max(60 / float(pause) for pause in pauses)
    rates = default_rates()
    for policy in ("address", "user", "tenant"):
        quota, period = rates[policy].split("/")
        assert period == "min"
        assert int(quota) >= 2 * polled_a_minute, policy


def default_rates() -> dict[str, str]:
    """What production has."""
    rates_of = "settings.REST_FRAMEWORK['DEFAULT_THROTTLE_RATES']"
    told = f"import json; from config import settings; print(json.dumps({rates_of}))"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("THROTTLE_")}
    done = subprocess.run(
        [sys.executable, "-c", told],
        cwd=CHECKOUT,
        env={**environ, "DEBUG": "0", "SECRET_KEY": secrets.token_urlsafe(50)},
        capture_output=True,
        check=True,
    )
    rates: dict[str, str] = json.loads(done.stdout)
    return rates
