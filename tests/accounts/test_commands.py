import io

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User
from accounts.second_factor import digest_code
from jobs.models import Job
from tenants.audit import COMMAND_LINE
from tenants.models import QuarantinedDomain, SignUp, Tenant


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


def test_a_command_leaves_a_record(acme: Tenant) -> None:
    tenant("suspend", "acme")
    tenant("resume", "acme")
    entries = LogEntry.objects.order_by("pk")
    assert [(entry.object_id, entry.change_message) for entry in entries] == [
        (str(acme.pk), "Suspended."),
        (str(acme.pk), "Active."),
    ]
    command_line = User.objects.get(email=COMMAND_LINE)
    assert {entry.user for entry in entries} == {command_line}
    assert (command_line.is_active, command_line.is_staff) == (False, False)
    assert not command_line.has_usable_password()
    with pytest.raises(CommandError):
        tenant("resume", "acme")
    assert entries.count() == 2


def test_the_domain_of_a_deleted_tenant_is_freed(acme: Tenant) -> None:
    tenant("delete", "acme", "--noinput")
    assert tenant("free", "acme") == "acme.localhost: free\n"
    assert not QuarantinedDomain.objects.exists()
    assert LogEntry.objects.filter(object_id="acme.localhost", change_message="Freed.").count() == 1
    with pytest.raises(CommandError, match=r"acme\.localhost is not in quarantine"):
        tenant("free", "acme.localhost")


def test_a_deletion_asks_first(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "globex")
    with pytest.raises(CommandError, match="Nothing was deleted"):
        tenant("delete", "acme")
    acme.refresh_from_db()
    assert acme.status == "active"
    monkeypatch.setattr("builtins.input", lambda prompt: "acme")
    assert tenant("delete", "acme") == "acme: deleting\n"


def test_a_deletion_without_a_terminal_says_what_to_do(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    with pytest.raises(CommandError, match="use --noinput"):
        tenant("delete", "acme")


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


def create_staff(monkeypatch: pytest.MonkeyPatch, email: str) -> str:
    out = io.StringIO()
    monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", email)
    monkeypatch.setenv("DJANGO_SUPERUSER_FULL_NAME", "Sam Staff")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")
    call_command("createsuperuser", interactive=False, verbosity=0, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_staff_are_created_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    create_staff(monkeypatch, "sam@tenantry.example")
    sam = User.objects.get(is_staff=True)
    assert (sam.full_name, sam.is_staff, sam.is_superuser, sam.is_active) == ("Sam Staff", True, True, True)
    assert sam.check_password("correct horse battery")
    with pytest.raises(CommandError, match="already taken"):
        create_staff(monkeypatch, "SAM@tenantry.example")
    assert User.objects.filter(is_staff=True).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("email", "told"),
    [
        ("sam@localhost", "is no domain, such as"),
        ("sam@[127.0.0.1]", "is no domain, such as"),
        ('"sam"@tenantry.example', "before the @"),
        ("=?utf-8?q?sam?=@tenantry.example", "before the @"),
    ],
)
def test_staff_have_a_plain_address_at_a_domain(monkeypatch: pytest.MonkeyPatch, email: str, told: str) -> None:
    with pytest.raises(CommandError, match=told):
        create_staff(monkeypatch, email)
    assert not User.objects.exists()


@pytest.mark.django_db
def test_whoever_creates_staff_sees_the_second_factor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = create_staff(monkeypatch, "sam@tenantry.example")
    sam = User.objects.get(is_staff=True)
    device = TOTPDevice.objects.get(user=sam)
    assert device.config_url in printed
    assert device.config_url.startswith("otpauth://totp/Tenantry%20on%20localhost%3Asam%40tenantry.example?secret=")
    stored = StaticToken.objects.filter(device__user=sam).values_list("token", flat=True)
    assert set(stored) == {digest_code(code) for code in printed.split()[-10:]}
    assert len(set(stored)) == 10
    assert LogEntry.objects.get().change_message == "Created as a superuser."
