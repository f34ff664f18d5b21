"""Organisations whose owners do not confirm their addresses."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_tenants.utils import schema_exists, tenant_context
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import tasks
from accounts.checks import check_keepers
from accounts.unconfirmed import expire_tenant
from config.celery import app
from jobs.models import Job
from tenants.models import Tenant
from tenants.services import resume_tenant
from tests.people import PASSWORD, mailed_links

RunJobs = Callable[..., int]
OWNER = {"email": "ira@initech.example", "full_name": "Ira Ink", "password": PASSWORD}
SIGN_UP = {"name": "Initech", "slug": "initech", "owner": OWNER}


def yes() -> bool:
    return True


def no() -> bool:
    return False


YES, NO = f"{__name__}.yes", f"{__name__}.no"


@pytest.fixture
def overdue(acme: Tenant, settings: Settings) -> Tenant:
    """acme, of which no owner has confirmed their address in time."""
    settings.KEEP_UNCONFIRMED_IF = [NO]
    grow_old(acme)
    return acme


def grow_old(tenant: Tenant, days: float = 7.1) -> None:
    created_at = timezone.now() - timedelta(days=days)
    Tenant.objects.filter(pk=tenant.pk).update(is_confirmed=False, created_at=created_at)


def expire(tenant: Tenant) -> str | None:
    with transaction.atomic():
        status = expire_tenant(tenant_id=str(tenant.pk))
    tenant.refresh_from_db()
    assert status in (None, tenant.status)
    return status


def test_it_goes_after_its_days_and_its_host_is_free_again(
    committed_db: None, public_client: APIClient, run_jobs: RunJobs
) -> None:
    public_client.post("/api/v1/tenants/", SIGN_UP)
    run_jobs()
    tenant = Tenant.objects.get(slug="initech")
    assert (tenant.status, tenant.is_confirmed) == ("active", False)
    assert tasks.expire_unconfirmed_tenants() == 0
    assert public_client.post("/api/v1/tenants/", SIGN_UP).status_code == 409

    grow_old(tenant)
    assert tasks.expire_unconfirmed_tenants() == 1
    run_jobs()
    run_jobs()

    assert not Tenant.objects.filter(slug="initech").exists()
    assert not schema_exists(tenant.schema_name)
    assert public_client.post("/api/v1/tenants/", SIGN_UP).status_code == 202


def test_one_that_was_there_before_the_upgrade_counts_as_confirmed(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tenants_tenant (id, schema_name, name, slug, status, failure, timezone, created_at)"
            " VALUES (gen_random_uuid(), 'old', 'Old', 'old', 'active', '', 'UTC', '2000-01-01')"
        )
    assert Tenant.objects.get(slug="old").is_confirmed
    assert tasks.expire_unconfirmed_tenants() == 0


def test_one_that_was_confirmed_stays(committed_db: None, public_client: APIClient, run_jobs: RunJobs) -> None:
    public_client.post("/api/v1/tenants/", SIGN_UP)
    run_jobs()
    client = APIClient(headers={"host": "initech.localhost"})
    [link] = mailed_links(OWNER["email"])
    assert client.post("/api/v1/confirmations/", {"link": link}).status_code == 204
    tenant = Tenant.objects.get(slug="initech")
    Tenant.objects.filter(pk=tenant.pk).update(created_at=timezone.now() - timedelta(days=100))
    assert tasks.expire_unconfirmed_tenants() == 0


def test_its_time_is_a_setting(overdue: Tenant, settings: Settings) -> None:
    settings.UNCONFIRMED_DAYS = 8
    assert expire(overdue) is None
    settings.UNCONFIRMED_DAYS = 7
    assert expire(overdue) == "deleting"


@pytest.mark.parametrize("status", ["suspended", "provisioning", "deleting"])
def test_what_is_in_another_status_is_left_alone(overdue: Tenant, status: str) -> None:
    Tenant.objects.filter(pk=overdue.pk).update(status=status)
    assert expire(overdue) is None
    assert overdue.status == status


def test_one_that_could_not_be_set_up_goes_too(overdue: Tenant, settings: Settings) -> None:
    settings.KEEP_UNCONFIRMED_IF = [YES]
    Tenant.objects.filter(pk=overdue.pk).update(status="failed", schema_name="nowhere")
    assert expire(overdue) == "deleting"


def test_one_that_may_have_paid_is_suspended_and_reported(
    overdue: Tenant, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.KEEP_UNCONFIRMED_IF = [NO, YES]
    assert expire(overdue) == "suspended"
    assert "a card may have been charged" in overdue.failure
    [report] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "Tenant acme is suspended" in report.getMessage()
    assert expire(overdue) is None


def test_once_staff_has_resumed_it_it_counts_as_confirmed(overdue: Tenant, settings: Settings) -> None:
    settings.KEEP_UNCONFIRMED_IF = [YES]
    expire(overdue)
    resume_tenant(overdue)
    assert (overdue.status, overdue.is_confirmed, overdue.failure) == ("active", True, "")
    assert expire(overdue) is None


def test_a_running_job_is_awaited(overdue: Tenant) -> None:
    """It may just be charging a card."""
    with tenant_context(overdue), transaction.atomic():
        job = tasks.send_password_links.delay_on_commit("nobody@acme.example")
    Job.objects.filter(pk=job).update(lease_until=timezone.now() + timedelta(minutes=1))
    assert expire(overdue) is None
    assert overdue.status == "active"
    Job.objects.filter(pk=job).update(lease_until=timezone.now() - timedelta(minutes=1))
    assert expire(overdue) == "deleting"


def test_one_that_is_confirmed_meanwhile_stays(overdue: Tenant) -> None:
    assert tasks.expire_unconfirmed_tenants() == 1
    Tenant.objects.filter(pk=overdue.pk).update(is_confirmed=True)
    assert expire(overdue) is None


def test_the_release_step_schedules_that(db: None) -> None:
    schedule = PeriodicTask.objects.get(name="Delete tenants that nobody confirmed")
    assert schedule.task in app.tasks
    assert schedule.enabled


@pytest.mark.parametrize("name", ["accounts.nothing.here", "accounts.services.nothing", "nothing"])
def test_a_function_that_is_not_there_is_told(settings: Settings, name: str) -> None:
    settings.KEEP_UNCONFIRMED_IF = [NO, name]
    [error] = check_keepers()
    assert (error.id, str(error.hint).startswith("Name functions")) == ("accounts.E001", True)


def test_those_of_the_settings_are_there() -> None:
    assert check_keepers() == []


# What a stranger gets


def test_a_stranger_reads_nothing_that_the_client_has_chosen(
    committed_db: None, public_client: APIClient, run_jobs: RunJobs
) -> None:
    bait = "Win at http://evil.example now"
    stranger = {"email": "victim@elsewhere.example", "full_name": bait, "password": PASSWORD}
    headers = {"host": "localhost:6666"}
    public_client.post("/api/v1/tenants/", {"name": bait, "slug": "initech", "owner": stranger}, headers=headers)
    run_jobs()
    client = APIClient(headers={"host": "initech.localhost"})
    credentials = {"email": stranger["email"], "password": PASSWORD}
    token = client.post("/api/v1/tokens/", credentials).json()["token"]
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    other = {"email": "other@elsewhere.example", "full_name": bait, "role": "member"}
    assert client.post("/api/v1/users/", {**other, "password": PASSWORD}).status_code == 201
    assert client.post("/api/v1/users/", {**other, "email": "third@elsewhere.example"}).status_code == 201
    line = {"description": bait, "quantity": 1, "unit_amount": 100}
    for card in ("tok_ok", "tok_declined"):
        client.post("/api/v1/orders/", {"currency": "EUR", "payment_token": card, "lines": [line]})
    client.post("/api/v1/password-resets/", {"email": stranger["email"]})
    while run_jobs(ahead=True):
        pass

    assert {to for sent in mail.outbox for to in sent.to} == {
        "victim@elsewhere.example",
        "other@elsewhere.example",
        "third@elsewhere.example",
    }
    assert len(mail.outbox) >= 4
    for sent in mail.outbox:
        text = str(sent.message())
        assert "evil" not in text
        assert "Win" not in text
        assert ":6666" not in text
        assert "initech" not in sent.subject
        assert "initech.localhost" in str(sent.body)
