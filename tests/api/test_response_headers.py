"""Conditional requests, addresses of what was made, and how often a client may ask."""

from collections.abc import Callable
from typing import Any

import pytest
from django_tenants.utils import tenant_context
from pytest_django import Settings
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from accounts.models import User
from notifications.models import Message
from tenants.middleware import Unavailable
from tenants.models import Tenant
from tests.people import PASSWORD, add_user, client_of

PERSON = {"email": "ann@acme.example", "full_name": "Ann Ash", "password": PASSWORD}


@pytest.fixture
def ada(acme: Tenant) -> User:
    return add_user(acme, "ada", "owner")


@pytest.fixture
def client(acme: Tenant, ada: User) -> APIClient:
    return client_of(acme, ada)


# What a client has already


@pytest.mark.parametrize(
    "path", ["users/", "messages/", "jobs/", "jobs/?state=success", "users/me/", "organisation/", "schema/"]
)
def test_what_a_client_has_is_not_sent_again(client: APIClient, path: str) -> None:
    url = f"/api/v1/{path}"
    first = client.get(url)
    again = client.get(url, headers={"if-none-match": first["ETag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert again["ETag"] == first["ETag"]
    for answer in (first, again):
        assert {"Accept", "Authorization"} <= set(answer["Vary"].split(", "))
        assert answer["Cache-Control"] == "private, no-cache"


def test_what_has_changed_is_sent(client: APIClient, acme: Tenant) -> None:
    with tenant_context(acme):
        message = Message.objects.create(subject="new")
    for url in ("/api/v1/messages/", f"/api/v1/messages/{message.pk}/"):
        etag = client.get(url)["ETag"]
        with tenant_context(acme):
            Message.objects.update(attempts=message.attempts + 1, error=url)
        answer = client.get(url, headers={"if-none-match": etag})
        assert answer.status_code == 200
        assert answer["ETag"] != etag


def test_a_page_differs_from_one_that_more_follows(client: APIClient, acme: Tenant) -> None:
    with tenant_context(acme):
        Message.objects.create(subject="old")
        newest = Message.objects.create(subject="new")
    url = "/api/v1/messages/?page_size=1"
    etag = client.get(url)["ETag"]
    with tenant_context(acme):
        Message.objects.exclude(pk=newest.pk).delete()
    assert client.get(url, headers={"if-none-match": etag}).status_code == 200


def test_neither_errors_nor_tokens_have_a_tag(client: APIClient, acme: Tenant) -> None:
    nothing = client.get("/api/v1/nothing/")
    assert "ETag" not in nothing
    assert "Authorization" in nothing["Vary"]
    assert "ETag" not in client.get(f"/api/v1/users/{acme.pk}/")
    answer = client.post("/api/v1/tokens/", {"email": "ada@acme.example", "password": PASSWORD})
    assert "ETag" not in answer
    assert answer["Cache-Control"] == "no-store"


# Where it is


def test_whatever_is_made_has_its_address(client: APIClient, public_client: APIClient) -> None:
    made = client.post("/api/v1/users/", {**PERSON, "role": "member"}, headers={"idempotency-key": "one"})
    assert made.status_code == 201
    assert made["Location"] == f"http://acme.localhost/api/v1/users/{made.json()['id']}/"
    assert client.get(made["Location"]).json()["email"] == "ann@acme.example"
    again = client.post("/api/v1/users/", {**PERSON, "role": "member"}, headers={"idempotency-key": "one"})
    assert again["Location"] == made["Location"]
    initech = public_client.post("/api/v1/tenants/", {"name": "Initech", "slug": "initech", "owner": PERSON})
    assert (initech.status_code, initech["Location"]) == (202, "http://localhost/api/v1/tenants/initech/")


def test_a_token_has_its_address_for_whoever_holds_it(client: APIClient, acme: Tenant) -> None:
    made = client.post("/api/v1/tokens/", {"email": "ada@acme.example", "password": PASSWORD})
    held = APIClient(headers={"host": "acme.localhost", "authorization": f"Bearer {made.json()['token']}"})
    assert held.delete(made["Location"]).status_code == 204


@pytest.mark.parametrize("path", ["users", "messages", "jobs"])
def test_an_id_is_read_in_capitals_too(client: APIClient, ada: User, path: str) -> None:
    found = client.get(f"/api/v1/{path}/{str(ada.pk).upper()}/")
    assert found.status_code == (200 if path == "users" else 404)
    assert found.json().get("id", str(ada.pk)) == str(ada.pk)


@pytest.mark.django_db
def test_the_schema_says_what_an_id_is(public_client: APIClient) -> None:
    schema = public_client.get("/api/v1/schema/?format=json").json()
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", [])]
    in_paths = [parameter["schema"] for parameter in parameters if parameter["name"] == "id"]
    in_bodies = [body.get("properties", {}).get("id") for body in schema["components"]["schemas"].values()]
    found = [*in_paths, *filter(None, in_bodies)]
    assert len(found) > 8
    assert {id.get("format") for id in found} == {"uuid"}


# How often


@pytest.fixture
def throttled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Throttles by these rates, which no other test has counted by: the key has the window's length."""

    def throttled(**rates: str) -> None:
        everything = dict.fromkeys(SimpleRateThrottle.THROTTLE_RATES)
        monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {**everything, **rates})

    return throttled


def test_a_client_sees_how_often_it_may_ask(client: APIClient, throttled: Callable[..., None]) -> None:
    throttled(user="2/day")
    answers = [client.get("/api/v1/users/me/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert {answer["RateLimit-Policy"] for answer in answers} == {'"user";q=2;w=86400'}
    limits = [answer["RateLimit"].split(";t=") for answer in answers]
    assert [remaining for remaining, _ in limits] == ['"user";r=1', '"user";r=0', '"user";r=0']
    assert all(0 < int(reset) <= 86400 for _, reset in limits)
    assert int(answers[2]["Retry-After"]) - int(limits[2][1]) in (-1, 0, 1)


def test_each_throttle_is_told(
    client_for: Callable[[Tenant], APIClient], acme: Tenant, throttled: Callable[..., None]
) -> None:
    throttled(address="1000/day", login="5/hour")
    client = client_for(acme)
    client.defaults["REMOTE_ADDR"] = "192.0.2.7"
    answer = client.post("/api/v1/tokens/", {"email": "nobody@acme.example", "password": PASSWORD})
    assert (answer.status_code, answer["RateLimit-Policy"]) == (401, '"login";q=5;w=3600, "address";q=1000;w=86400')
    assert [limit.split(";")[1] for limit in answer["RateLimit"].split(", ")] == ["r=4", "r=999"]


def test_what_is_not_sent_again_counts_and_tells(client: APIClient, throttled: Callable[..., None]) -> None:
    throttled(user="1000/day")
    first = client.get("/api/v1/users/me/")
    again = client.get("/api/v1/users/me/", headers={"if-none-match": first["ETag"]})
    assert again.status_code == 304
    assert "r=998;" in again["RateLimit"]


def test_nobody_is_told_of_a_limit_that_is_not_there(client: APIClient) -> None:
    assert "RateLimit" not in client.get("/api/v1/users/me/")


@pytest.mark.parametrize("error", Unavailable.__subclasses__())
def test_a_tenant_that_is_not_there_yet_says_when_to_ask_again(error: type[Any]) -> None:
    assert error.wait > 0


def test_a_tenant_that_failed_says_when_to_ask_again(
    acme: Tenant, client_for: Callable[[Tenant], APIClient], settings: Settings
) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=Tenant.Status.FAILED)
    answer = client_for(acme).get("/api/v1/users/")
    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "tenant_failed", "600")
