"""The organisation, as its users see it and its owners change it."""

from typing import Any

import pytest
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from accounts.models import User
from notifications.models import Message
from notifications.services import send_message
from tenants.models import Tenant
from tests.people import add_user, client_of

URL = "/api/v1/organisation/"


def test_all_of_its_users_read_it(acme: Tenant, as_ada: APIClient, as_amy: APIClient, as_alan: APIClient) -> None:
    for client in (as_ada, as_amy, as_alan):
        answer = client.get(URL)
        assert answer.status_code == 200
        organisation = answer.json()
        del organisation["created_at"]
        assert organisation == {
            "slug": "acme",
            "name": "Acme",
            "timezone": "UTC",
            "domain": "acme.localhost",
            "is_confirmed": True,
        }


def test_its_owner_renames_it_and_sets_its_time_zone(as_ada: APIClient, acme: Tenant, globex: Tenant) -> None:
    assert as_ada.patch(URL, {"name": "Acme & Søns"}).json()["name"] == "Acme & Søns"
    changed = as_ada.patch(URL, {"timezone": "Pacific/Auckland"}).json()
    assert (changed["name"], changed["timezone"]) == ("Acme & Søns", "Pacific/Auckland")
    assert as_ada.get(URL).json() == changed
    assert as_ada.patch(URL, {}).json() == changed
    others = client_of(globex, add_user(globex, "gus", "owner")).get(URL).json()
    assert (others["name"], others["timezone"]) == ("Globex", "UTC")


def test_mails_have_its_new_name(as_ada: APIClient, acme: Tenant, ada: User) -> None:
    as_ada.patch(URL, {"name": "Apex"})
    with tenant_context(acme):
        send_message(to=ada.email, template="welcome_user", context={"full_name": "Ada", "login_url": "http://x/"})
        assert "Apex" in Message.objects.get().text


def test_only_owners_change_it(acme: Tenant, as_amy: APIClient, as_alan: APIClient) -> None:
    for client in (as_amy, as_alan):
        assert client.patch(URL, {"name": "Mine"}).status_code == 403
    assert Tenant.objects.get(pk=acme.pk).name == "Acme"


def test_nobody_else_sees_it(acme: Tenant, public_client: APIClient) -> None:
    assert APIClient(headers={"host": "acme.localhost"}).get(URL).status_code == 401
    assert public_client.get(URL).status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"timezone": "Mars/Olympus"}, "#/timezone"),
        ({"timezone": "europe/berlin"}, "#/timezone"),
        ({"timezone": "../etc/passwd"}, "#/timezone"),
        ({"timezone": "localtime"}, "#/timezone"),
        ({"timezone": "+13:00"}, "#/timezone"),
        ({"timezone": ""}, "#/timezone"),
        ({"timezone": None}, "#/timezone"),
        ({"timezone": "Factory"}, "#/timezone"),
        ({"timezone": "UTC\0"}, "#/timezone"),
        ({"timezone": ["UTC"]}, "#/timezone"),
        ({"name": ""}, "#/name"),
        ({"name": None}, "#/name"),
        ({"name": "x" * 201}, "#/name"),
        ({"name": "a\nb"}, "#/name"),
        ({"name": "New", "timezone": "nowhere"}, "#/timezone"),
    ],
)
def test_what_it_can_not_be(as_ada: APIClient, acme: Tenant, change: dict[str, Any], pointer: str) -> None:
    answer = as_ada.patch(URL, change)
    assert answer.status_code == 400
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    tenant = Tenant.objects.get(pk=acme.pk)
    assert (tenant.name, tenant.timezone) == ("Acme", "UTC")
