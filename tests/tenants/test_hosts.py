from collections.abc import Callable

import pytest
from django.test import override_settings
from rest_framework.test import APIClient

from tenants.connection import connection
from tenants.models import Tenant

URL = "/api/v1/users/me/"


def asked(host: str) -> tuple[int, str]:
    answer = APIClient(headers={"host": host}).get(URL)
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("host", ["initech.localhost", "acme.globex.localhost", "www.localhost"])
def test_an_unknown_host(acme: Tenant, host: str, debug: bool) -> None:
    with override_settings(DEBUG=debug):
        assert asked(host) == (404, "tenant_not_found")


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("host", ["example.com", "acme.localhost.example.com", "a_\x00", "acme localhost", "[::1"])
@pytest.mark.django_db
def test_an_invalid_host(host: str, debug: bool) -> None:
    with override_settings(DEBUG=debug, ALLOWED_HOSTS=["localhost", ".localhost"]):
        assert asked(host) == (400, "bad_host")


@pytest.mark.parametrize("host", ["acme.localhost", "ACME.localhost", "acme.localhost:8000", "acme.localhost."])
def test_a_tenants_host(acme: Tenant, host: str) -> None:
    assert asked(host) == (401, "not_authenticated")
    assert connection.schema_name == "public"  # as before the request


def test_the_public_host_knows_no_users(public_client: APIClient, acme: Tenant) -> None:
    assert public_client.get(URL).status_code == 404
    assert connection.schema_name == "public"


def test_a_tenants_host_has_neither_sign_up_nor_admin(acme: Tenant) -> None:
    client = APIClient(headers={"host": "acme.localhost"})
    assert client.post("/api/v1/tenants/", {}).status_code == 404
    assert client.get("/admin/").status_code == 404


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("provisioning", (503, "tenant_provisioning")),
        ("failed", (503, "tenant_failed")),
        ("suspended", (403, "tenant_suspended")),
        ("deleting", (403, "tenant_deleting")),
    ],
)
def test_a_tenant_that_is_not_active(acme: Tenant, status: str, answer: tuple[int, str]) -> None:
    Tenant.objects.update(status=status)
    assert asked("acme.localhost") == answer
    assert connection.schema_name == "public"


def test_when_to_come_back(acme: Tenant, client_for: Callable[[Tenant], APIClient]) -> None:
    Tenant.objects.update(status="provisioning")
    assert client_for(acme).get(URL)["Retry-After"] == "2"
    Tenant.objects.update(status="failed")
    assert client_for(acme).get(URL)["Retry-After"] == "600"
