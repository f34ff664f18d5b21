"""Addresses that were stored before they were normalised."""

# letters that look alike are what is tested

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from accounts.models import User
from notifications.models import Message
from tenants.connection import connection
from tenants.models import SignUp, Tenant
from tests.people import PASSWORD, add_user, client_of


def set_email(tenant: Tenant, user: User, email: str) -> None:
    with tenant_context(tenant):
        User.objects.filter(pk=user.pk).update(email=email)


def emails(tenant: Tenant) -> list[str]:
    with tenant_context(tenant):
        return list(User.objects.order_by("pk").values_list("email", flat=True))


def migrate(tenant: Tenant) -> None:
    """Do to the rows of a schema what the migrations do: it has run those that came after them."""
    with tenant_context(tenant):
        normalize("accounts.migrations.0003_normalize_email")
        normalize("notifications.migrations.0004_normalize_to")


def normalize(migration: str) -> None:
    importlib.import_module(migration).normalize(apps, SimpleNamespace(connection=connection))


@pytest.mark.usefixtures("committed_db")
def test_a_migration_normalises_what_is_there(acme: Tenant, globex: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    written = [
        "Ada@ACME.example",
        "x@bücher.example",
        "y@bu\u0308cher.example",
        "z@XN--BCHER-KVA.example",
    ]
    for number, email in enumerate(written):
        set_email(acme, add_user(acme, f"user{number}"), email)
    set_email(globex, add_user(globex, "gus"), "x@bücher.example")
    with tenant_context(acme):
        Message.objects.create(to="x@bücher.example", subject="Hello", text="", html="")

    migrate(acme)

    normal = "xn--bcher-kva.example"
    assert emails(acme) == ["Ada@acme.example", f"x@{normal}", f"y@{normal}", f"z@{normal}"]
    assert emails(globex) == ["x@bücher.example"]
    with tenant_context(acme):
        assert Message.objects.get().to == f"x@{normal}"
    assert not caplog.records


@pytest.mark.usefixtures("committed_db")
def test_accounts_of_one_mailbox_are_reported_and_stay_two(acme: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    spelt = ["x@bücher.example", "x@bu\u0308cher.example", "X@xn--strae-oqa.example", "x@straße.example"]
    people = [add_user(acme, f"user{number}") for number in range(4)]
    for user, email in zip(people, spelt, strict=True):
        set_email(acme, user, email)

    migrate(acme)

    assert emails(acme) == ["x@xn--bcher-kva.example", *spelt[1:]]
    reports = [record.getMessage() for record in caplog.records]
    assert len(reports) == 2
    for report, (kept, left) in zip(reports, [people[:2], people[2:]], strict=True):
        assert acme.schema_name in report
        assert str(kept.pk) in report
        assert str(left.pk) in report


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize(
    "email", ["a" * 65 + "@acme.example", "x@xn--a.example", '"a\x0bb"@acme.example', "ü@acme.example"]
)
def test_what_is_no_address_any_more_is_reported(acme: Tenant, caplog: pytest.LogCaptureFixture, email: str) -> None:
    set_email(acme, add_user(acme, "ada"), email)

    migrate(acme)

    assert emails(acme) == [email]
    [report] = [record.getMessage() for record in caplog.records]
    assert "is none" in report


@pytest.mark.usefixtures("committed_db")
def test_a_sign_up_that_waits_is_normalised(acme: Tenant) -> None:
    waiting: dict[str, Any] = {"full_name": "Ian", "password_hash": ""}
    SignUp.objects.create(tenant=acme, email="ian@bücher.example", **waiting)

    normalize("tenants.migrations.0004_normalize_email")

    assert SignUp.objects.get().email == "ian@xn--bcher-kva.example"


def test_those_who_share_a_mailbox_log_in_as_before(acme: Tenant) -> None:
    first, second = add_user(acme, "first"), add_user(acme, "second", "owner")
    set_email(acme, first, "x@xn--bcher-kva.example")
    set_email(acme, second, "x@bücher.example")

    def who(email: str) -> str:
        answer = APIClient(headers={"host": "acme.localhost"}).post(
            "/api/v1/tokens/", {"email": email, "password": PASSWORD}
        )
        me = APIClient(headers={"host": "acme.localhost", "authorization": f"Bearer {answer.json()['token']}"})
        return str(me.get("/api/v1/users/me/").json()["id"])

    assert who("x@xn--bcher-kva.example") == str(first.pk)
    assert who("X@bücher.example") == str(second.pk)
    assert who("x@bu\u0308cher.example") == str(first.pk)
    found = client_of(acme, second).get("/api/v1/users/", {"email": "x@bücher.example"}).json()["results"]
    assert {user["id"] for user in found} == {str(first.pk), str(second.pk)}


@pytest.mark.django_db
def test_staff_is_stored_in_the_same_form() -> None:
    options = {"email": "Sam@BÜCHER.example", "full_name": "Sam\u00a0Staff", "interactive": False, "verbosity": 0}
    call_command("createsuperuser", **options)
    sam = User.objects.get_by_natural_key("sam@bücher.example")
    assert (sam.email, sam.full_name) == ("Sam@xn--bcher-kva.example", "Sam Staff")
