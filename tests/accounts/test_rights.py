"""What staff may do: each thing needs its own right, nobody gives what they do not have, and all of it is recorded."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.db.models import Model
from django.test import Client, RequestFactory
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_tenants.utils import schema_context

from accounts.models import User
from jobs.models import Job
from tenants.audit import COMMAND_LINE
from tenants.models import QuarantinedDomain, SignUp, Tenant
from tests.jobs.durables import atomic, mark
from tests.people import PASSWORD, add_staff, client_of_staff

TENANTS = "/admin/tenants/tenant/"
JOBS = "/admin/jobs/job/"
STAFF = "/admin/accounts/user/"
GROUPS = "/admin/auth/group/"


def permissions(*names: str) -> list[Permission]:
    return [
        Permission.objects.get(content_type__app_label=app, codename=codename)
        for app, _, codename in (name.partition(".") for name in names)
    ]


@pytest.fixture
def sue(db: None) -> User:
    """A member of staff with the rights that a test gives."""
    return add_staff(email="sue@tenantry.example", full_name="Sue Staff", is_superuser=False)


@pytest.fixture
def boss(db: None) -> User:
    return add_staff()


@pytest.fixture
def client_with(sue: User) -> Callable[..., Client]:
    """Sue's client, when she has these permissions."""

    def client_with(*names: str) -> Client:
        sue.user_permissions.set(permissions(*names))
        return client_of_staff(sue)

    return client_with


def act(client: Client, url: str, action: str, row: Model, **data: str) -> str:
    chosen = {"action": action, "_selected_action": [row.pk], **data}
    return str(client.post(url, chosen, follow=True).content.decode())


def dead_job(tenant: Tenant) -> Job:
    with schema_context(tenant.schema_name):
        job = Job.objects.get(pk=atomic.apply_async_on_commit(()))
    Job.objects.filter(pk=job.pk).update(state=Job.State.DEAD, died_at=timezone.now(), tag=None)
    return job


# Tenants and jobs


@pytest.mark.parametrize("others", [["change_tenant", "view_tenant"], ["change_tenant", "suspend_tenant"]])
def test_to_delete_a_tenant_needs_its_own_right(
    acme: Tenant, client_with: Callable[..., Client], others: list[str]
) -> None:
    client = client_with(*(f"tenants.{name}" for name in others))
    act(client, TENANTS, "delete_for_good", acme, confirmed="yes")
    acme.refresh_from_db()
    assert acme.status == "active"

    client = client_with("tenants.view_tenant", "tenants.delete_tenant")
    act(client, TENANTS, "suspend", acme)
    act(client, TENANTS, "delete_for_good", acme, confirmed="yes")
    acme.refresh_from_db()
    assert acme.status == "deleting"


def test_to_suspend_a_tenant_needs_its_own_right(acme: Tenant, client_with: Callable[..., Client]) -> None:
    def status_after(action: str, *names: str) -> str:
        act(client_with(*names), TENANTS, action, acme)
        acme.refresh_from_db()
        return acme.status

    assert status_after("suspend", "tenants.change_tenant", "tenants.delete_tenant") == "active"
    assert status_after("suspend", "tenants.view_tenant", "tenants.suspend_tenant") == "suspended"
    assert status_after("resume", "tenants.change_tenant", "tenants.delete_tenant") == "suspended"
    assert status_after("resume", "tenants.view_tenant", "tenants.suspend_tenant") == "active"


@pytest.mark.parametrize(("action", "right"), [("retry", "replay_job"), ("discard", "discard_job")])
def test_each_thing_to_do_to_a_dead_job_needs_its_own_right(
    acme: Tenant, client_with: Callable[..., Client], action: str, right: str
) -> None:
    job = dead_job(acme)
    rights = {"replay_job", "discard_job", "cancel_job"}
    others = [f"jobs.{name}" for name in ("change_job", "delete_job", *(rights - {right}))]
    act(client_with(*others), JOBS, action, job)
    assert Job.objects.get(pk=job.pk).state == Job.State.DEAD
    act(client_with("jobs.view_job", f"jobs.{right}"), JOBS, action, job)
    assert not Job.objects.filter(pk=job.pk, state=Job.State.DEAD).exists()


def test_to_cancel_a_job_needs_its_own_right(acme: Tenant, client_with: Callable[..., Client]) -> None:
    with schema_context(acme.schema_name):
        job = Job.objects.get(pk=atomic.apply_async_on_commit((), countdown=3600))
    act(client_with("jobs.change_job", "jobs.replay_job", "jobs.discard_job"), JOBS, "cancel", job)
    assert Job.objects.filter(pk=job.pk).exists()
    act(client_with("jobs.view_job", "jobs.cancel_job"), JOBS, "cancel", job)
    assert not Job.objects.filter(pk=job.pk).exists()


# Granting


def edit(client: Client, user: User, **fields: Any) -> Any:
    form = {"email": user.email, "full_name": user.full_name, "is_active": "on", **fields}
    answer = client.post(f"{STAFF}{user.pk}/change/", form)
    user.refresh_from_db()
    return answer


def rights_of(user: User) -> tuple[bool, bool, set[str], set[str]]:
    own = set(user.user_permissions.values_list("codename", flat=True))
    return user.is_staff, user.is_superuser, own, set(user.groups.values_list("name", flat=True))


@pytest.fixture
def tom(db: None) -> User:
    """Somebody without any right."""
    return add_staff(email="tom@tenantry.example", full_name="Tom", is_staff=False, is_superuser=False)


def test_who_may_only_change_users_gives_no_right(client_with: Callable[..., Client], sue: User, tom: User) -> None:
    client = client_with("accounts.change_user", "accounts.view_user")
    group = Group.objects.create(name="all")
    [permission] = permissions("accounts.change_user")
    everything = {"is_staff": "on", "is_superuser": "on", "groups": group.pk, "user_permissions": permission.pk}
    for user in (tom, sue):
        before = rights_of(user)
        assert edit(client, user, full_name="New Name", **everything).status_code == 302
        assert (user.full_name, rights_of(user)) == ("New Name", before)


def test_who_grants_gives_what_they_have_and_nothing_more(
    client_with: Callable[..., Client], sue: User, tom: User
) -> None:
    client = client_with("accounts.change_user", "accounts.grant_rights", "tenants.view_tenant")
    own, other = permissions("tenants.view_tenant", "tenants.delete_tenant")
    small, large = Group.objects.create(name="small"), Group.objects.create(name="large")
    small.permissions.add(own)
    large.permissions.add(own, other)

    for refused in ({"user_permissions": other.pk}, {"groups": large.pk}):
        assert "not one of the available choices" in edit(client, tom, **refused).content.decode()
    edit(client, tom, is_staff="on", is_superuser="on", user_permissions=own.pk, groups=small.pk)
    assert rights_of(tom) == (True, False, {"view_tenant"}, {"small"})
    edit(client, sue, is_staff="on", is_superuser="on", user_permissions=[own.pk])
    assert not sue.is_superuser


def test_a_superuser_makes_superusers(boss: User, tom: User) -> None:
    edit(client_of_staff(boss), tom, is_staff="on", is_superuser="on")
    assert (tom.is_staff, tom.is_superuser) == (True, True)


@pytest.mark.parametrize("more", ["is a superuser", "has another permission", "has another group"])
@pytest.mark.parametrize("is_active", [True, False])
def test_nobody_changes_an_account_that_has_more_rights(
    client_with: Callable[..., Client], tom: User, more: str, is_active: bool
) -> None:
    if more == "is a superuser":
        tom.is_superuser = True
    elif more == "has another permission":
        tom.user_permissions.set(permissions("tenants.delete_tenant"))
    else:
        group = Group.objects.create(name="large")
        group.permissions.set(permissions("tenants.delete_tenant"))
        tom.groups.add(group)
    tom.is_active = is_active
    tom.save()
    client = client_with("accounts.change_user", "accounts.view_user", "accounts.grant_rights", "auth.change_group")

    assert edit(client, tom, email="mine@tenantry.example").status_code == 403
    new = {"password1": "another long one", "password2": "another long one", "usable_password": "true"}
    assert client.post(f"{STAFF}{tom.pk}/password/", new).status_code == 403
    tom.refresh_from_db()
    assert (tom.email, tom.is_active) == ("tom@tenantry.example", is_active)
    assert tom.check_password(PASSWORD)
    assert client.get(f"{STAFF}{tom.pk}/change/").status_code == 200  # to look at


def test_nobody_changes_the_account_of_the_command_line(boss: User) -> None:
    """Its records would be theirs."""
    account = User.objects.create(email=COMMAND_LINE, full_name="Command line", is_active=False)
    client = client_of_staff(boss)
    edit(client, account, email="stolen@staff.example", is_staff="on")
    page = client.post(f"/admin/accounts/user/{account.pk}/password/", {"password1": PASSWORD, "password2": PASSWORD})
    assert page.status_code == 403
    account.refresh_from_db()
    assert (account.email, account.is_staff, account.password) == (COMMAND_LINE, False, "")


def test_nobody_changes_their_own_password_without_the_old_one(boss: User) -> None:
    client = client_of_staff(boss)
    new = {"password1": "another long one", "password2": "another long one", "usable_password": "true"}
    for spelling in (str(boss.pk), boss.pk.hex.upper()):
        answer = client.post(f"{STAFF}{spelling}/password/", new)
        assert (answer.status_code, answer["Location"]) == (302, "/admin/password_change/")
    boss.refresh_from_db()
    assert boss.check_password(PASSWORD)


def test_groups_are_for_those_who_grant(client_with: Callable[..., Client], sue: User) -> None:
    own, other = permissions("auth.change_group", "tenants.delete_tenant")
    group = Group.objects.create(name="hers")
    sue.groups.add(group)
    of_groups = ["auth.add_group", "auth.change_group", "auth.delete_group", "auth.view_group"]

    client = client_with(*of_groups)
    form = {"name": "hers", "permissions": [own.pk]}
    assert client.post(f"{GROUPS}{group.pk}/change/", form).status_code == 403
    assert client.post(f"{GROUPS}add/", {"name": "new", "permissions": own.pk}).status_code == 403
    assert client.post(f"{GROUPS}{group.pk}/delete/", {"post": "yes"}).status_code == 403

    client = client_with(*of_groups, "accounts.grant_rights")
    for url in (f"{GROUPS}{group.pk}/change/", f"{GROUPS}add/"):
        answer = client.post(url, {"name": "x", "permissions": [other.pk]})
        assert "not one of the available choices" in answer.content.decode()
    assert client.post(f"{GROUPS}{group.pk}/change/", form).status_code == 302
    assert list(group.permissions.all()) == [own]


@pytest.mark.parametrize("page", ["change/", "delete/"])
def test_nobody_changes_a_group_that_has_more_rights(client_with: Callable[..., Client], page: str) -> None:
    group = Group.objects.create(name="large")
    group.permissions.set(permissions("tenants.delete_tenant"))
    client = client_with("auth.change_group", "auth.delete_group", "accounts.grant_rights")
    assert client.post(f"{GROUPS}{group.pk}/{page}", {"name": "large", "post": "yes"}).status_code == 403
    act(client, GROUPS, "delete_selected", group, post="yes")
    assert list(group.permissions.values_list("codename", flat=True)) == ["delete_tenant"]


# Records


def sign_up_that_failed(tenant: Tenant) -> SignUp:
    Tenant.objects.filter(pk=tenant.pk).update(status="failed")
    return SignUp.objects.create(tenant=tenant, email="a@acme.example", full_name="Ada", password_hash="!")


def waiting_job(tenant: Tenant) -> Job:
    with schema_context(tenant.schema_name):
        return Job.objects.get(pk=atomic.apply_async_on_commit((), countdown=3600))


def suspended(tenant: Tenant) -> Tenant:
    Tenant.objects.filter(pk=tenant.pk).update(status="suspended")
    return tenant


def schedule(tenant: Tenant) -> PeriodicTask:
    interval = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    return PeriodicTask.objects.create(name="one", task=mark.name, args='["one"]', interval=interval)


# By action: on what, and what the record says
ACTIONS: dict[str, tuple[Callable[[Tenant], Model], str]] = {
    "tenants.Tenant.suspend": (lambda tenant: tenant, "Suspended."),
    "tenants.Tenant.resume": (suspended, "Active again."),
    "tenants.Tenant.delete_for_good": (lambda tenant: tenant, "Being deleted."),
    "tenants.SignUp.retry": (sign_up_that_failed, "Being provisioned again."),
    "jobs.Job.retry": (dead_job, "Run again."),
    "jobs.Job.discard": (dead_job, "Discarded."),
    "jobs.Job.cancel": (waiting_job, "Cancelled."),
    "django_celery_beat.PeriodicTask.enable_tasks": (schedule, "Enabled."),
    "django_celery_beat.PeriodicTask.disable_tasks": (schedule, "Disabled."),
    "django_celery_beat.PeriodicTask.run_tasks": (schedule, "Run now: dispatched."),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_each_action_leaves_a_record(acme: Tenant, boss: User, name: str) -> None:
    make, message = ACTIONS[name]
    row = make(acme)
    app, model, action = name.split(".")
    act(client_of_staff(boss), f"/admin/{app}/{model.lower()}/", action, row, confirmed="yes")
    [entry] = LogEntry.objects.all()
    assert (entry.user, entry.change_message) == (boss, message)
    assert entry.object_id == str(row.pk)


def test_there_are_no_other_actions(boss: User) -> None:
    Client(headers={"host": "localhost"}).get("/admin/")  # loads the URLs, which decide what the admin shows
    request = RequestFactory().get("/admin/")
    request.user = boss
    found = {
        f"{model._meta.label}.{action}"
        for model, model_admin in admin.site._registry.items()
        for action in model_admin.get_actions(request)
        if action != "delete_selected"  # Django records it
    }
    assert found == set(ACTIONS)


def test_what_is_refused_leaves_none(acme: Tenant, boss: User) -> None:
    act(client_of_staff(boss), TENANTS, "resume", acme)
    assert not LogEntry.objects.exists()


def test_a_change_of_ones_own_password_leaves_a_record(boss: User) -> None:
    client = client_of_staff(boss)
    new = {"new_password1": "another long one", "new_password2": "another long one"}
    client.post("/admin/password_change/", {"old_password": "wrong", **new})
    assert not LogEntry.objects.exists()
    client.post("/admin/password_change/", {"old_password": PASSWORD, **new})
    assert LogEntry.objects.get().change_message == "Changed their own password."
    assert client.get("/admin/").status_code == 200


def test_records_are_shown_and_never_edited(acme: Tenant, boss: User) -> None:
    client = client_of_staff(boss)
    act(client, TENANTS, "suspend", acme)
    entry = LogEntry.objects.get()
    assert "Suspended." in client.get("/admin/admin/logentry/").content.decode()
    assert client.post(f"/admin/admin/logentry/{entry.pk}/change/", {"change_message": "x"}).status_code == 403
    assert client.post(f"/admin/admin/logentry/{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    assert LogEntry.objects.get().change_message == "Suspended."


def test_a_domain_in_quarantine_is_freed_by_its_own_right(
    acme: Tenant, client_with: Callable[..., Client], sue: User
) -> None:
    resting = QuarantinedDomain.objects.create(domain="old.localhost", until=timezone.now() + timedelta(days=1))
    url = f"/admin/tenants/quarantineddomain/{resting.pk}/delete/"
    client = client_with("tenants.view_quarantineddomain", "tenants.change_tenant", "tenants.delete_tenant")
    assert client.post(url, {"post": "yes"}).status_code == 403
    client = client_with("tenants.view_quarantineddomain", "tenants.delete_quarantineddomain")
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not QuarantinedDomain.objects.exists()
    assert LogEntry.objects.get().object_repr == "old.localhost"
