from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest
from django.test import Client

from accounts.models import User
from jobs.models import Job
from tenants.admin import TenantAdmin
from tenants.models import SignUp, Tenant
from tenants.services import suspend_tenant
from tests.people import PASSWORD, add_staff, client_of_staff

TENANTS = "/admin/tenants/tenant/"
SIGN_UPS = "/admin/tenants/signup/"
STAFF = "/admin/accounts/user/"


@pytest.fixture
def sam(db: None) -> User:
    """The platform's staff."""
    return add_staff()


@pytest.fixture
def client(sam: User) -> Client:
    return client_of_staff(sam)


def act(client: Client, url: str, action: str, *rows: Any, **data: str) -> Any:
    chosen = {"action": action, "_selected_action": [row.pk for row in rows], **data}
    return client.post(url, chosen, follow=True)


def test_a_tenants_owner_is_no_staff(acme: Tenant, ada: User) -> None:
    client = Client(headers={"host": "localhost"})
    answer = client.post("/admin/login/", {"username": ada.email, "password": PASSWORD})
    assert "Please enter the correct" in answer.content.decode()


def test_every_page_opens(client: Client, acme: Tenant) -> None:
    # Loads the URLs, which decide what the admin shows.
    assert client.get("/admin/").status_code == 200
    lists = {f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry}
    assert {TENANTS, SIGN_UPS, STAFF, "/admin/django_celery_beat/periodictask/"} <= lists
    assert "/admin/django_celery_results/taskresult/" in lists
    # Among others, none of a model that has its table in the tenants' schemas only.
    for path in ["/admin/", *lists]:
        assert client.get(path).status_code == 200, path
        assert client.get(f"{path}?q=%00").status_code in (200, 302), path


def test_tenants_are_suspended_and_resumed(client: Client, acme: Tenant, globex: Tenant) -> None:
    Tenant.objects.filter(pk=globex.pk).update(status="suspended")
    page = act(client, TENANTS, "suspend", acme, globex).content.decode()
    assert "Acme: suspended." in page
    assert "Globex is suspended; only a tenant that is active can become suspended." in page
    act(client, TENANTS, "resume", acme)
    acme.refresh_from_db()
    assert acme.status == "active"


def test_a_deletion_is_confirmed_first(client: Client, acme: Tenant, globex: Tenant) -> None:
    page = act(client, TENANTS, "delete_for_good", acme).content.decode()
    assert "Delete for good" in page
    assert str(acme.pk) in page
    acme.refresh_from_db()
    assert acme.status == "active"
    act(client, TENANTS, "delete_for_good", acme, confirmed="yes")
    acme.refresh_from_db()
    globex.refresh_from_db()
    assert (acme.status, globex.status) == ("deleting", "active")


def test_no_row_is_deleted_or_added(client: Client, acme: Tenant, sam: User) -> None:
    assert client.post(f"{TENANTS}{acme.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{TENANTS}add/").status_code == 403
    assert client.post(f"{STAFF}{sam.pk}/delete/", {"post": "yes"}).status_code == 403
    act(client, TENANTS, "delete_selected", acme, post="yes")
    assert Tenant.objects.filter(pk=acme.pk).exists()


def test_an_edit_leaves_the_status_alone(client: Client, acme: Tenant) -> None:
    domain = acme.domains.get()
    form = {"name": "Acme & Sons", "timezone": "Europe/Berlin", "slug": "other", "status": "failed"}
    formset = {"domains-TOTAL_FORMS": "1", "domains-INITIAL_FORMS": "1", "domains-0-id": domain.pk}
    domains = {"domains-0-tenant": acme.pk, "domains-0-domain": "other.localhost"}
    client.post(f"{TENANTS}{acme.pk}/change/", {**form, **formset, **domains})
    acme.refresh_from_db()
    assert (acme.name, acme.timezone, acme.slug, acme.status) == ("Acme & Sons", "Europe/Berlin", "acme", "active")
    assert acme.domains.get().domain == "acme.localhost"


def test_a_form_that_was_opened_before_a_suspension_does_not_undo_it(acme: Tenant) -> None:
    opened = Tenant.objects.get(pk=acme.pk)
    suspend_tenant(acme)
    opened.name = "Acme & Sons"
    form = SimpleNamespace(changed_data=["name"])
    TenantAdmin(Tenant, admin.site).save_model(HttpRequest(), opened, form, change=True)
    acme.refresh_from_db()
    assert (acme.name, acme.status) == ("Acme & Sons", "suspended")


def test_a_failed_sign_up_is_tried_again(client: Client, acme: Tenant, globex: Tenant) -> None:
    owner = {"email": "a@acme.example", "full_name": "Ada", "password_hash": "!"}
    sign_ups = [SignUp.objects.create(tenant=tenant, **owner) for tenant in (acme, globex)]
    Tenant.objects.filter(pk=acme.pk).update(status="failed", failure="no disk")
    assert "no disk" in client.get(SIGN_UPS).content.decode()
    page = act(client, SIGN_UPS, "retry", *sign_ups).content.decode()
    assert "Acme: being provisioned again." in page
    assert "Globex is active" in page
    acme.refresh_from_db()
    assert (acme.status, acme.failure) == ("provisioning", "")
    assert Job.objects.get().args == f'["{acme.pk}"]'


def test_staff_are_added_and_edited(client: Client) -> None:
    passwords = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    added = {"email": "sue@tenantry.example", "full_name": "Sue Staff", **passwords}
    assert client.post(f"{STAFF}add/", added).status_code == 302
    sue = User.objects.get(email="sue@tenantry.example")
    assert sue.check_password(PASSWORD)
    assert client.post(f"{STAFF}add/", {**added, "email": "SUE@tenantry.example"}).status_code == 200
    assert User.objects.count() == 2
    edited = {"email": sue.email, "full_name": "Sue Smith", "is_active": "on", "is_staff": "on"}
    assert client.post(f"{STAFF}{sue.pk}/change/", edited).status_code == 302
    sue.refresh_from_db()
    assert (sue.full_name, sue.is_staff) == ("Sue Smith", True)
    assert LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("email", "told"),
    [
        ("sue@[127.0.0.1]", "is no domain"),
        ("sue@localhost", "is no domain"),
        ('"sue"@tenantry.example', "before the @"),
        ("=?utf-8?q?sue?=@tenantry.example", "before the @"),
        ("su\u0131@tenantry.example", "before the @"),
    ],
)
def test_a_new_address_is_a_plain_one_at_a_domain(client: Client, email: str, told: str) -> None:
    sue = add_staff(email="sue@tenantry.example")
    page = f"{STAFF}{sue.pk}/change/"
    edited = {"email": email, "full_name": "Sue Smith", "is_active": "on", "is_staff": "on"}
    assert told in client.post(page, edited).content.decode()
    added = {"email": email, "full_name": "Sue Staff", "usable_password": "false"}
    assert told in client.post(f"{STAFF}add/", added).content.decode()
    User.objects.filter(pk=sue.pk).update(email=email)
    assert client.post(page, edited).status_code == 302


def test_a_form_without_its_token_is_refused(sam: User) -> None:
    client = Client(enforce_csrf_checks=True, headers={"host": "localhost"})
    answer = client.post("/admin/login/", {"username": sam.email, "password": PASSWORD})
    assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
    assert answer.json()["code"] == "csrf_failed"
