"""On the public host the header `Tenant: <slug>` names the tenant, as its host would."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import override_settings
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from accounts.models import User
from idempotency.models import KeptResponse
from notifications.models import Message
from tenants.connection import connection
from tenants.models import Domain, Tenant
from tests.people import PASSWORD, add_staff, add_user, client_of, client_of_staff

ME = "/api/v1/users/me/"
USERS = "/api/v1/users/"
BOB = {"email": "bob@acme.example", "full_name": "Bob", "password": PASSWORD, "role": "member"}
# What the public host answers itself, whatever the header says
PUBLIC = ["/api/v1/tenants/acme/", "/api/v1/schema/", "/api/v1/docs/", "/livez", "/readyz", "/admin/login/"]


def by_header(tenant: Tenant, user: User) -> APIClient:
    """A client that is logged in, asks the public host, and sets the header once."""
    client = client_of(tenant, user)
    client.defaults["HTTP_HOST"] = "localhost:8000"
    client.defaults["HTTP_TENANT"] = tenant.slug
    return client


def asked(client: APIClient, path: str = ME) -> tuple[int, str]:
    answer = client.get(path)
    assert answer["Content-Type"] == "application/problem+json"
    assert connection.schema_name == "public"  # as before the request
    return answer.status_code, answer.json()["code"]


@pytest.fixture
def ada(acme: Tenant) -> User:
    return add_user(acme, "ada", "owner")


@pytest.fixture
def named() -> Callable[[str], APIClient]:
    """A client of the public host with this header."""
    return lambda value: APIClient(headers={"host": "localhost", "tenant": value})


def test_the_header_leads_to_the_tenant(acme: Tenant, globex: Tenant, ada: User) -> None:
    gus = add_user(globex, "gus", "owner")

    assert by_header(acme, ada).get(ME).json()["email"] == ada.email
    assert by_header(globex, gus).get(ME).json()["email"] == gus.email
    assert connection.schema_name == "public"


def test_a_token_serves_by_host_and_by_header_and_in_no_other_tenant(acme: Tenant, globex: Tenant, ada: User) -> None:
    client = by_header(acme, ada)

    assert client.get(ME).status_code == 200
    assert client.get(ME, headers={"host": "acme.localhost"}).status_code == 200
    assert client.get(ME, headers={"tenant": "globex"}).status_code == 401


@pytest.mark.parametrize("value", ["acme", "ACME", "Acme", " acme "])
def test_case_and_spaces_do_not_matter(acme: Tenant, named: Callable[[str], APIClient], value: str) -> None:
    assert asked(named(value)) == (401, "not_authenticated")


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("value", ["initech", "public", "localhost", "admin", "www", "a", "a" * 40])
def test_an_unknown_slug_is_an_unknown_host(
    acme: Tenant, named: Callable[[str], APIClient], value: str, debug: bool
) -> None:
    with override_settings(DEBUG=debug):
        assert asked(named(value)) == (404, "tenant_not_found")


NO_SLUGS = ["", " ", ",", "acme,globex", "acme, acme", "acme.localhost", "acme:8000", "a_b", "-a", "1a", "a" * 41]
NO_SLUGS += ["acmé", "😀", "acme\x00", "acme\x7f", "a\tb", "'", "%s", "*", "pg-a", "xn--a", "http://acme.localhost"]


@pytest.mark.parametrize("value", NO_SLUGS)
def test_what_is_no_slug(acme: Tenant, named: Callable[[str], APIClient], value: str) -> None:
    assert asked(named(value)) == (400, "bad_tenant")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("provisioning", (503, "tenant_provisioning")),
        ("failed", (503, "tenant_failed")),
        ("suspended", (403, "tenant_suspended")),
        ("deleting", (403, "tenant_deleting")),
    ],
)
def test_a_tenant_that_is_not_active(
    acme: Tenant, named: Callable[[str], APIClient], status: str, answer: tuple[int, str]
) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=status)
    assert asked(named("acme")) == answer


def test_a_deleted_tenant(acme: Tenant, named: Callable[[str], APIClient]) -> None:
    Tenant.objects.filter(pk=acme.pk).update(slug="gone")
    assert asked(named("acme")) == (404, "tenant_not_found")


def test_a_slug_leads_to_a_tenant_whose_host_is_its_own(acme: Tenant, named: Callable[[str], APIClient]) -> None:
    Domain.objects.filter(tenant=acme).update(domain="shop.acme.example")
    assert asked(named("acme")) == (401, "not_authenticated")


# What ignores the header


@pytest.mark.parametrize("value", ["acme", "initech", "", "acme,globex"])
@pytest.mark.parametrize("path", PUBLIC)
def test_what_the_public_host_answers_itself(
    acme: Tenant, named: Callable[[str], APIClient], path: str, value: str
) -> None:
    assert named(value).get(path).status_code == 200


def test_who_sets_the_header_once_can_sign_up_and_go_on(
    acme: Tenant, named: Callable[[str], APIClient], run_jobs: Callable[..., int]
) -> None:
    owner = {"email": "ian@initech.example", "full_name": "Ian", "password": PASSWORD}
    client = named("initech")

    assert client.post("/api/v1/tenants/", {"name": "Initech", "slug": "initech", "owner": owner}).status_code == 202
    assert client.get("/api/v1/tenants/initech/").json()["status"] == "provisioning"
    assert asked(client) == (503, "tenant_provisioning")


@pytest.mark.parametrize("path", ["/api/v1/schema/", "/api/v1/docs/", "/livez"])
def test_a_tenants_host_ignores_it_there_too(acme: Tenant, globex: Tenant, path: str) -> None:
    assert APIClient(headers={"host": "acme.localhost", "tenant": "globex"}).get(path).status_code == 200


# Host and header


@pytest.mark.parametrize("value", ["acme", "ACME"])
def test_a_tenants_host_may_have_its_own_name_in_the_header(acme: Tenant, ada: User, value: str) -> None:
    answer = client_of(acme, ada).get(ME, headers={"tenant": value})
    assert answer.status_code == 200


@pytest.mark.parametrize("value", ["globex", "initech", "public"])
@pytest.mark.parametrize("status", ["active", "suspended"])
def test_host_and_header_that_disagree(acme: Tenant, globex: Tenant, value: str, status: str) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=status)
    assert asked(APIClient(headers={"host": "acme.localhost", "tenant": value})) == (400, "tenant_mismatch")


@pytest.mark.parametrize("value", ["", "acme,globex", "a_b"])
def test_what_is_no_slug_is_refused_on_a_tenants_host(acme: Tenant, value: str) -> None:
    assert asked(APIClient(headers={"host": "acme.localhost", "tenant": value})) == (400, "bad_tenant")


def test_an_unknown_host_stays_unknown(acme: Tenant) -> None:
    assert asked(APIClient(headers={"host": "initech.localhost", "tenant": "acme"})) == (404, "tenant_not_found")


@pytest.mark.django_db
@override_settings(ALLOWED_HOSTS=["localhost", ".localhost"])
def test_a_host_that_is_not_ours_stays_refused() -> None:
    assert asked(APIClient(headers={"host": "example.com", "tenant": "acme"})) == (400, "bad_host")


def test_who_forgets_the_header_is_told_of_it(acme: Tenant, public_client: APIClient) -> None:
    answer = public_client.get(ME)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "`Tenant: <slug>`" in answer.json()["detail"]
    assert "Tenant" not in public_client.get("/nowhere").json()["detail"]


@pytest.mark.parametrize("headers", [{"host": "localhost"}, {"host": "localhost", "tenant": "acme"}])
def test_caches_keep_tenants_apart(acme: Tenant, headers: dict[str, str]) -> None:
    assert "Tenant" in APIClient(headers=headers).get(ME)["Vary"]


# Each tenant for itself


def test_idempotency_keys_are_the_tenants(acme: Tenant, globex: Tenant, ada: User) -> None:
    key = {"idempotency-key": "key-1"}
    gus = add_user(globex, "gus", "owner")

    first = by_header(acme, ada).post(USERS, BOB, headers=key)
    other = by_header(globex, gus).post(USERS, BOB, headers=key)
    again = client_of(acme, ada).post(USERS, BOB, headers=key)

    assert [first.status_code, other.status_code, again.status_code] == [201, 201, 201]
    assert again.json() == first.json() != other.json()
    for tenant in (acme, globex):
        with tenant_context(tenant):
            assert KeptResponse.objects.count() == 1


def test_throttles_are_the_users(acme: Tenant, globex: Tenant, ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "user", "1/day")
    gus = add_user(globex, "gus", "owner")

    assert [by_header(acme, ada).get(ME).status_code for _ in range(2)] == [200, 429]
    assert by_header(globex, gus).get(ME).status_code == 200
    assert client_of(acme, ada).get(ME).status_code == 429


def test_cache_keys_are_the_tenants(acme: Tenant, ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def remember(**kwargs: Any) -> None:
        cache.set("who", connection.schema_name)
        raise KeyError

    monkeypatch.setattr("accounts.views.services.log_in", remember)
    with pytest.raises(KeyError):
        by_header(acme, ada).post("/api/v1/tokens/", {"email": ada.email, "password": PASSWORD})

    assert cache.get("who") is None
    with tenant_context(acme):
        assert cache.get("who") == acme.schema_name


def test_a_mail_links_to_the_tenants_own_host(acme: Tenant, ada: User) -> None:
    by_header(acme, ada).post(USERS, BOB)
    with tenant_context(acme):
        assert "http://acme.localhost:8000/link/?link=" in Message.objects.get().text


def test_pages_lead_to_where_the_client_is(acme: Tenant, ada: User) -> None:
    add_user(acme, "bob")
    client = by_header(acme, ada)

    page = client.get(f"{USERS}?page_size=1").json()

    assert page["next"].startswith("http://localhost:8000/api/v1/users/?")
    assert len(client.get(page["next"]).json()["results"]) == 1


def test_a_cookie_of_the_admin_opens_nothing(acme: Tenant, named: Callable[[str], APIClient]) -> None:
    client = named("acme")
    client.cookies = client_of_staff(add_staff()).cookies
    assert client.get("/admin/").status_code == 200
    assert asked(client) == (401, "not_authenticated")
