"""What piles up has a quota for each organisation, and an end: kept responses and mails."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_tenants.utils import tenant_context
from pytest_django import Settings
from rest_framework.test import APIClient

from config.celery import app
from idempotency.models import KeptResponse
from jobs import schedules
from jobs.models import Job
from notifications.models import Message
from notifications.quota import WAITS
from notifications.services import send_message
from tenants.models import Tenant
from tests.limits.conftest import Clock
from tests.people import PASSWORD, add_user, client_of

RunJobs = Callable[..., int]
Rates = Callable[..., None]

# Kept responses


def create(client: APIClient, name: str, *, key: str | None = None, password: str = PASSWORD) -> Any:
    headers = {} if key is None else {"idempotency-key": key}
    body = {"email": f"{name}@acme.example", "full_name": name.title(), "role": "member", "password": password}
    return client.post("/api/v1/users/", body, headers=headers)


def test_an_organisation_keeps_so_many_responses(acme: Tenant, globex: Tenant, rates: Rates, clock: Clock) -> None:
    ada, amy = (client_of(acme, add_user(acme, name, "owner")) for name in ("ada", "amy"))
    rates(idempotency_key="2/day")
    assert [create(ada, "bob", key="1").status_code, create(amy, "cat", key="2").status_code] == [201, 201]

    refused = create(amy, "dan", key="3")
    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, "throttled", "86400")
    # Nothing has happened, and nothing else is refused: neither what is kept nor what has no key.
    assert create(ada, "bob", key="1")["Idempotent-Replayed"] == "true"
    assert create(amy, "dan").status_code == 201
    assert create(client_of(globex, add_user(globex, "gus", "owner")), "dan", key="3").status_code == 201

    clock.now += 24 * 60 * 60
    assert create(amy, "eve", key="3").status_code == 201
    with tenant_context(acme):
        assert KeptResponse.objects.count() == 3


def test_what_is_not_kept_does_not_count(acme: Tenant, rates: Rates, clock: Clock) -> None:
    ada = client_of(acme, add_user(acme, "ada", "owner"))
    rates(idempotency_key="1/day")
    assert [create(ada, "bob", key=str(n), password="short").status_code for n in range(5)] == [400] * 5
    assert [create(ada, "ada", key=str(n)).status_code for n in range(5)] == [409] * 5
    assert [create(ada, "bob", key="1").status_code for _ in range(5)] == [201] * 5


@pytest.mark.django_db
def test_sign_ups_of_strangers_share_no_quota(public_client: APIClient, rates: Rates, clock: Clock) -> None:
    rates(idempotency_key="0/day")
    owner = {"email": "ian@initech.example", "full_name": "Ian Ink", "password": PASSWORD}
    body = {"name": "Initech", "slug": "initech", "owner": owner}
    assert public_client.post("/api/v1/tenants/", body, headers={"idempotency-key": "1"}).status_code == 202


def test_how_long_a_key_serves_is_a_setting(acme: Tenant, settings: Settings) -> None:
    ada = client_of(acme, add_user(acme, "ada", "owner"))
    create(ada, "bob", key="1")
    settings.IDEMPOTENCY_KEY_HOURS = 2
    for hours, status in ((1.9, 201), (0.2, 409)):
        with tenant_context(acme):
            KeptResponse.objects.update(created_at=F("created_at") - timedelta(hours=hours))
        assert create(ada, "bob", key="1").status_code == status


# Mails


def write(tenant: Tenant, number: int) -> Message:
    with tenant_context(tenant), transaction.atomic():
        context = {"full_name": "Ada", "login_url": "http://acme.localhost/"}
        message, _ = send_message(to=f"ada{number}@{tenant.slug}.example", template="welcome_user", context=context)
    return message


def outcomes(tenant: Tenant) -> list[tuple[str, str]]:
    with tenant_context(tenant):
        return list(Message.objects.order_by("id").values_list("status", "error"))


def test_an_organisation_sends_so_many_mails_and_the_rest_wait(
    acme: Tenant, globex: Tenant, rates: Rates, clock: Clock, run_jobs: RunJobs
) -> None:
    rates(mail="2/day")
    for number in range(4):
        write(acme, number)
    write(globex, 1)
    run_jobs()
    assert outcomes(acme) == [("sent", "")] * 2 + [("queued", WAITS)] * 2
    assert outcomes(globex) == [("sent", "")]
    assert len(mail.outbox) == 3

    waiting = Job.objects.filter(task="notifications.tasks.deliver_message", state=Job.State.WAITING)
    assert waiting.count() == 2
    assert all(timedelta(hours=23) < job.due_at - timezone.now() < timedelta(hours=25) for job in waiting)

    clock.now += 24 * 60 * 60
    run_jobs(ahead=True)
    assert outcomes(acme) == [("sent", "")] * 4


def test_a_mail_counts_once_however_often_it_is_tried(
    acme: Tenant, rates: Rates, clock: Clock, run_jobs: RunJobs, settings: Settings
) -> None:
    rates(mail="1/day")
    message = write(acme, 1)
    backend = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "tests.limits.test_quotas.Away"
    run_jobs()
    settings.EMAIL_BACKEND = backend
    run_jobs(ahead=True)
    with tenant_context(acme):
        message.refresh_from_db()
    # A retry may come due at once.
    assert (message.status, message.attempts > 1) == ("sent", True)


class Away:
    """A mail server that is away."""

    def __init__(self, **kwargs: Any) -> None:
        raise ConnectionRefusedError("away")


def test_old_messages_are_deleted_every_night_and_everywhere(
    acme: Tenant, globex: Tenant, run_jobs: RunJobs, settings: Settings
) -> None:
    settings.MESSAGE_DAYS = 30
    for tenant in (acme, globex):
        for number in range(3):
            write(tenant, number)
    run_jobs()
    with tenant_context(acme):
        old, queued, young = Message.objects.order_by("id")
        Message.objects.filter(pk__in=[old.pk, queued.pk]).update(created_at=timezone.now() - timedelta(days=30))
        Message.objects.filter(pk=queued.pk).update(status="queued")
        Message.objects.filter(pk=young.pk).update(created_at=timezone.now() - timedelta(days=29))

    schedule = PeriodicTask.objects.get(name="Forget old messages")
    assert (schedule.enabled, schedule.task in app.tasks) == (True, True)
    schedules.dispatch(schedules.run_of(schedule))
    run_jobs()

    with tenant_context(acme):
        assert list(Message.objects.order_by("id")) == [queued, young]
    assert len(outcomes(globex)) == 3
