from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from rest_framework.test import APIClient

from accounts.models import User
from tenants.models import Tenant
from tests.people import PASSWORD, add_user, client_of

URL = "/api/v1/tokens/"
ME = "/api/v1/users/me/"
ClientFor = Callable[[Tenant], APIClient]


@pytest.fixture
def client(client_for: ClientFor, acme: Tenant) -> APIClient:
    return client_for(acme)


def credentials(user: User, **changes: Any) -> dict[str, Any]:
    return {"email": user.email, "password": PASSWORD, **changes}


def test_a_token_opens_the_api(client: APIClient, ada: User) -> None:
    answer = client.post(URL, credentials(ada, email="ADA@Acme.Example"))
    assert answer.status_code == 201
    assert answer.json().keys() == {"token", "expires_at"}
    expires_at = parse_datetime(answer.json()["expires_at"])
    assert expires_at is not None
    assert timedelta(hours=11) < expires_at - timezone.now() < timedelta(hours=13)
    assert client.get(ME, headers={"authorization": f"Bearer {answer.json()['token']}"}).json()["email"] == ada.email


def test_a_token_is_stored_as_a_hash(client: APIClient, acme: Tenant, ada: User) -> None:
    secret = client.post(URL, credentials(ada)).json()["token"]
    with tenant_context(acme):
        assert secret not in str(vars(AuthToken.objects.get()))


def test_a_login_is_remembered(client: APIClient, acme: Tenant, ada: User) -> None:
    client.post(URL, credentials(ada))
    with tenant_context(acme):
        ada.refresh_from_db()
    assert ada.last_login is not None


@pytest.mark.parametrize(
    "changes",
    [{"password": "wrong"}, {"email": "nobody@acme.example"}, {"email": "nobody"}, {"password": f" {PASSWORD}"}],
)
def test_wrong_credentials_are_refused_alike(client: APIClient, ada: User, changes: dict[str, str]) -> None:
    answer = client.post(URL, credentials(ada, **changes))
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert answer.json()["code"] == "wrong_credentials"
    assert answer.json() == client.post(URL, credentials(ada, password="wrong again")).json()


def test_an_inactive_user_is_refused(client: APIClient, acme: Tenant) -> None:
    gone = add_user(acme, "abe", is_active=False)
    answer = client.post(URL, credentials(gone))
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")
    assert client_of(acme, gone).get(ME).status_code == 401


def test_a_user_of_another_tenant_is_refused(client: APIClient, gus: User) -> None:
    assert client.post(URL, credentials(gus)).status_code == 401


def test_a_foreign_token_is_refused(globex: Tenant, acme: Tenant, gus: User, ada: User) -> None:
    client = client_of(globex, gus)
    assert client.get(ME).status_code == 200
    answer = client.get(ME, headers={"host": "acme.localhost"})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert answer["WWW-Authenticate"] == "Bearer"
    assert client.get(ME).status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer a b", "Bearer \xff", "Bearer " + "a" * 64, "Bearer a\x00b", "bearer x"]
)
def test_odd_headers_are_refused(client: APIClient, header: str) -> None:
    answer = client.get(ME, headers={"authorization": header})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Token x", "a" * 64, "Basic YTpi", "Bearer", "Bearer a b", "Bearer: x"])
def test_a_header_of_another_form_is_told_the_form(client: APIClient, header: str) -> None:
    answer = client.get(ME, headers={"authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")
    assert "`Bearer <token>`" in answer.json()["detail"]
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", [{}, {"authorization": " "}])
def test_without_a_token_nothing_is_shown(client: APIClient, headers: dict[str, str]) -> None:
    answer = client.get(ME, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"


def test_an_expired_token_is_refused(as_ada: APIClient, acme: Tenant) -> None:
    with tenant_context(acme):
        AuthToken.objects.update(expiry=timezone.now())
    assert as_ada.get(ME).status_code == 401


def test_a_login_sweeps_the_users_expired_tokens(client: APIClient, acme: Tenant, ada: User, alan: User) -> None:
    for user in (ada, alan):
        client.post(URL, credentials(user))
    with tenant_context(acme):
        AuthToken.objects.update(expiry=timezone.now())
    client.post(URL, credentials(ada))
    with tenant_context(acme):
        assert AuthToken.objects.filter(user=ada).count() == 1
        assert AuthToken.objects.filter(user=alan).count() == 1


def test_a_login_needs_no_valid_token(as_ada: APIClient, ada: User) -> None:
    answer = as_ada.post(URL, credentials(ada), headers={"authorization": "Bearer stale"})
    assert answer.status_code == 201


def test_logging_out_ends_this_token_only(acme: Tenant, ada: User) -> None:
    here, there = client_of(acme, ada), client_of(acme, ada)
    assert here.delete(f"{URL}current/").status_code == 204
    assert here.get(ME).status_code == 401
    assert there.get(ME).status_code == 200
