"""What a browser finds at the address of the platform, and of an organisation."""

import pytest
from django.test import Client, override_settings

from tenants.models import Tenant

HOSTS = ["localhost", "acme.localhost"]


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("host", HOSTS)
def test_it_leads_to_the_documentation(acme: Tenant, host: str, debug: bool) -> None:
    with override_settings(DEBUG=debug):
        page = Client(headers={"host": host}).get("/", follow=True)

    assert page.redirect_chain == [("/api/v1/docs/", 302)]
    assert (page.status_code, page["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("host", HOSTS)
def test_a_head_request_leads_there_too(acme: Tenant, host: str) -> None:
    assert Client(headers={"host": host}).head("/")["Location"] == "/api/v1/docs/"


@pytest.mark.parametrize("header", ["acme", "nobody", ""])
def test_on_the_public_host_it_needs_no_tenant(acme: Tenant, header: str) -> None:
    """As the documentation that it leads to."""
    client = Client(headers={"host": "localhost", "tenant": header})
    assert client.get("/")["Location"] == "/api/v1/docs/"
    assert client.get("/api/v1/docs/").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
@pytest.mark.parametrize("host", HOSTS)
def test_nothing_else_can_be_done_there(acme: Tenant, host: str, method: str) -> None:
    strict = Client(enforce_csrf_checks=True, headers={"host": host})
    answer = getattr(strict, method)("/")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_the_host_of_a_tenant_that_is_not_served_says_so(acme: Tenant) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=Tenant.Status.SUSPENDED)
    answer = Client(headers={"host": "acme.localhost"}).get("/")
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


def test_a_host_that_leads_nowhere_says_so(acme: Tenant) -> None:
    answer = Client(headers={"host": "nobody.localhost"}).get("/")
    assert (answer.status_code, answer.json()["code"]) == (404, "tenant_not_found")
