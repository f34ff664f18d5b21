import io

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from jobs.models import Job
from tenants.models import SignUp, Tenant


def tenant(*arguments: str) -> str:
    out = io.StringIO()
    call_command("tenant", *arguments, stdout=out)
    return out.getvalue()


def test_tenants_are_listed(acme: Tenant, globex: Tenant) -> None:
    Tenant.objects.filter(pk=globex.pk).update(status="failed", failure="no disk")
    acme_line, globex_line = tenant("list").splitlines()
    assert acme_line.split() == ["acme", "active", "acme.localhost"]
    assert globex_line.split() == ["globex", "failed", "globex.localhost", "no", "disk"]


def test_the_life_of_a_tenant(acme: Tenant) -> None:
    assert tenant("suspend", "acme") == "acme: suspended\n"
    assert tenant("resume", "acme") == "acme: active\n"
    assert tenant("delete", "acme", "--noinput") == "acme: deleting\n"
    acme.refresh_from_db()
    assert acme.status == "deleting"


def test_a_deletion_asks_first(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "globex")
    with pytest.raises(CommandError, match="Nothing was deleted"):
        tenant("delete", "acme")
    acme.refresh_from_db()
    assert acme.status == "active"
    monkeypatch.setattr("builtins.input", lambda prompt: "acme")
    assert tenant("delete", "acme") == "acme: deleting\n"


def test_provisioning_is_tried_again(acme: Tenant) -> None:
    owner = {"email": "a@acme.example", "full_name": "Ada", "password_hash": "!"}
    SignUp.objects.create(tenant=acme, **owner)
    Tenant.objects.filter(pk=acme.pk).update(status="failed")
    assert tenant("provision", "acme") == "acme: provisioning\n"
    assert Job.objects.count() == 1


def test_what_cannot_be_done_is_said(acme: Tenant) -> None:
    with pytest.raises(CommandError, match="acme is active; only a tenant that is suspended can become active"):
        tenant("resume", "acme")
    with pytest.raises(CommandError, match="acme is active; only a tenant that is failed"):
        tenant("provision", "acme")
    with pytest.raises(CommandError, match="There is no tenant 'initech'"):
        tenant("suspend", "initech")


def create_staff(monkeypatch: pytest.MonkeyPatch, email: str) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", email)
    monkeypatch.setenv("DJANGO_SUPERUSER_FULL_NAME", "Sam Staff")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")
    call_command("createsuperuser", interactive=False, verbosity=0)


@pytest.mark.django_db
def test_staff_are_created_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    create_staff(monkeypatch, "sam@tenantry.example")
    sam = User.objects.get()
    assert (sam.full_name, sam.is_staff, sam.is_superuser, sam.is_active) == ("Sam Staff", True, True, True)
    assert sam.check_password("correct horse battery")
    with pytest.raises(CommandError, match="already taken"):
        create_staff(monkeypatch, "SAM@tenantry.example")
    assert User.objects.count() == 1
