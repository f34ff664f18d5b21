from collections.abc import Callable

import pytest
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from notifications.models import Message
from tenants.ids import new_id
from tenants.models import Tenant
from tests.people import add_user, client_of

ClientFor = Callable[[Tenant], APIClient]


@pytest.fixture
def messages(acme: Tenant) -> dict[str, Message]:
    with tenant_context(acme):
        return {
            name: Message.objects.create(to=f"{name}@acme.example", subject=f"To {name}", text="secret", html="secret")
            for name in ("ada", "bob")
        }


def logged_in(tenant: Tenant, *, role: str) -> APIClient:
    return client_of(tenant, add_user(tenant, "ADA", role=role))


def recipients(client: APIClient, query: str = "") -> list[str]:
    response = client.get(f"/api/v1/messages/{query}")
    assert response.status_code == 200
    return [message["to"] for message in response.json()["results"]]


@pytest.mark.usefixtures("messages")
@pytest.mark.parametrize("role", ["owner", "admin"])
def test_owners_and_admins_see_all_newest_first(acme: Tenant, role: str) -> None:
    assert recipients(logged_in(acme, role=role)) == ["bob@acme.example", "ada@acme.example"]


def test_a_member_sees_what_went_to_them(acme: Tenant, messages: dict[str, Message]) -> None:
    ada = logged_in(acme, role="member")
    assert recipients(ada) == ["ada@acme.example"]
    assert ada.get(f"/api/v1/messages/{messages['ada'].pk}/").status_code == 200
    assert ada.get(f"/api/v1/messages/{messages['bob'].pk}/").status_code == 404


def test_a_message_shows_its_state_and_not_its_text(acme: Tenant, messages: dict[str, Message]) -> None:
    response = logged_in(acme, role="owner").get(f"/api/v1/messages/{messages['ada'].pk}/")
    message = response.json()
    assert (message["to"], message["subject"], message["status"]) == ("ada@acme.example", "To ada", "queued")
    assert (message["attempts"], message["error"], message["sent_at"]) == (0, "", None)
    assert b"secret" not in response.content


@pytest.mark.usefixtures("messages")
def test_messages_are_filtered(acme: Tenant) -> None:
    owner = logged_in(acme, role="owner")
    assert recipients(owner, "?to=BOB@acme.example") == ["bob@acme.example"]
    assert recipients(owner, "?status=sent") == []
    assert owner.get("/api/v1/messages/?status=gone").status_code == 400
    assert owner.get("/api/v1/messages/?to=%00").status_code == 400


@pytest.mark.usefixtures("messages")
def test_nobody_elses_messages_are_there(globex: Tenant) -> None:
    assert recipients(logged_in(globex, role="owner")) == []


def test_nobody_reads_without_a_token(acme: Tenant, client_for: ClientFor) -> None:
    assert client_for(acme).get("/api/v1/messages/").status_code == 401


def test_messages_are_read_only(acme: Tenant, messages: dict[str, Message]) -> None:
    owner = logged_in(acme, role="owner")
    assert owner.post("/api/v1/messages/", {}).status_code == 405
    assert owner.delete(f"/api/v1/messages/{messages['ada'].pk}/").status_code == 405
    assert owner.get(f"/api/v1/messages/{new_id()}/").status_code == 404
