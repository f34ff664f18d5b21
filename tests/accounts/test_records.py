"""Each record of what staff do is a line of the log, whoever leaves it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from accounts.models import User
from config import logs
from tenants.audit import COMMAND_LINE, record
from tenants.models import Tenant
from tests.people import PASSWORD, add_staff, client_of_staff

STAFF = "/admin/accounts/user/"
GROUPS = "/admin/auth/group/"
NEW = "another long one"


@pytest.fixture
def boss(db: None) -> User:
    return add_staff()


@pytest.fixture
def sue(db: None) -> User:
    return add_staff(email="sue@tenantry.example", full_name="Sue Staff", is_superuser=False)


@pytest.fixture
def client(boss: User, django_capture_on_commit_callbacks: Any) -> Client:
    """The boss's client, in a transaction for each request."""
    client = client_of_staff(boss)
    request = client.request

    def commit(**asked: Any) -> Any:
        with django_capture_on_commit_callbacks(execute=True):
            return request(**asked)

    client.request = commit  # type: ignore[method-assign]
    return client


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """On what, and what was done, of each line by the boss. There is one for each record."""

    def told() -> list[tuple[str, str]]:
        lines: list[Any] = [line for line in caplog.records if line.name == "tenantry.records"]
        assert {line.account for line in lines} <= {"sam@tenantry.example"}
        assert len(lines) == LogEntry.objects.count()
        return [(line.object, line.change) for line in lines]

    return told


Told = Callable[[], list[tuple[str, str]]]


def edit(client: Client, user: User, **fields: Any) -> None:
    form = {"email": user.email, "full_name": user.full_name, "is_active": "on", "is_staff": "on", **fields}
    form = {name: value for name, value in form.items() if value is not None}
    assert client.post(f"{STAFF}{user.pk}/change/", form).status_code == 302


def test_somebody_is_added(client: Client, told: Told) -> None:
    added = {"email": "new@tenantry.example", "full_name": "New", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post(f"{STAFF}add/", {**added, "usable_password": "true"}).status_code == 302
    assert told() == [("user new@tenantry.example", "Added.")]


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({"full_name": "Sue Smith"}, "Changed Full name."),
        ({"is_active": None}, "Changed Is active."),
        ({"is_staff": None}, "Changed Is staff."),
        ({"is_superuser": "on"}, "Changed Superuser status."),
    ],
)
def test_somebody_is_changed(client: Client, sue: User, told: Told, fields: dict[str, Any], change: str) -> None:
    edit(client, sue, **fields)
    assert told() == [("user sue@tenantry.example", change)]


def test_rights_are_given(client: Client, sue: User, told: Told) -> None:
    group, permission = Group.objects.create(name="support"), Permission.objects.earliest("pk")
    edit(client, sue, groups=group.pk, user_permissions=permission.pk)
    assert told() == [("user sue@tenantry.example", "Changed Groups and User permissions.")]


def test_a_password_is_set_and_not_told(
    client: Client, sue: User, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    new = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    assert client.post(f"{STAFF}{sue.pk}/password/", new).status_code == 302
    assert told() == [("user sue@tenantry.example", "Changed password.")]
    assert NEW not in caplog.text


def test_ones_own_password_is_changed(client: Client, told: Told) -> None:
    new = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert client.post("/admin/password_change/", new).status_code == 302
    assert told() == [("user sam@tenantry.example", "Changed their own password.")]


def test_groups_are_added_changed_and_deleted(client: Client, told: Told) -> None:
    client.post(f"{GROUPS}add/", {"name": "one"})
    one = Group.objects.get()
    client.post(f"{GROUPS}{one.pk}/change/", {"name": "first"})
    client.post(f"{GROUPS}{one.pk}/delete/", {"post": "yes"})
    assert told() == [("group one", "Added."), ("group first", "Changed Name."), ("group first", "Deleted.")]


def test_each_of_many_that_are_deleted_at_once_has_a_line(client: Client, told: Told) -> None:
    groups = [Group.objects.create(name=name) for name in ("one", "two", "three")]
    chosen = {"action": "delete_selected", "_selected_action": [group.pk for group in groups], "post": "yes"}
    assert client.post(GROUPS, chosen).status_code == 302
    assert not Group.objects.exists()
    assert sorted(told()) == [("group one", "Deleted."), ("group three", "Deleted."), ("group two", "Deleted.")]


def test_an_action_has_a_line(client: Client, acme: Tenant, told: Told) -> None:
    client.post("/admin/tenants/tenant/", {"action": "suspend", "_selected_action": [acme.pk]})
    assert told() == [("tenant acme", "Suspended.")]


def test_a_command_has_a_line(
    acme: Tenant, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        call_command("tenant", "suspend", "acme")
    lines: list[Any] = [line for line in caplog.records if line.name == "tenantry.records"]
    assert [(line.account, line.object, line.change) for line in lines] == [
        (COMMAND_LINE, "tenant acme", "Suspended."),
    ]


def test_what_is_rolled_back_has_none(committed_db: None, caplog: pytest.LogCaptureFixture) -> None:
    sam = add_staff()
    with transaction.atomic():
        record(sam, "Undone.", user=sam)
        transaction.set_rollback(True)
    with transaction.atomic():
        record(sam, "Done.", user=sam)
    lines: list[Any] = [line for line in caplog.records if line.name == "tenantry.records"]
    assert [line.change for line in lines] == ["Done."]


@pytest.mark.parametrize("json", [True, False])
def test_a_name_steers_no_terminal(
    boss: User, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any, json: bool
) -> None:
    group = Group.objects.create(name="a\n2026-01-01 [info] forged\x1b[2J\u202e")
    with django_capture_on_commit_callbacks(execute=True):
        record(group, "Seen.", user=boss)
    [line] = [line for line in caplog.records if line.name == "tenantry.records"]
    formatter = logs.config(json=json, level="INFO")["formatters"]["structured"]
    written = formatter.pop("()")(**formatter).format(line)
    assert written.isprintable()
    assert "forged" in written
