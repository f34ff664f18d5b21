"""A message is `queued` for as long as a job will send it, whatever ended that job."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from accounts.models import User
from jobs import endings
from jobs.models import Job
from notifications import delivery
from notifications.models import Message
from notifications.services import send_message
from tenants.models import Tenant
from tests.people import add_user, client_of

RunJobs = Callable[..., int]


@pytest.fixture
def bob(acme: Tenant) -> User:
    return add_user(acme, "bob")


@pytest.fixture
def owner(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


@pytest.fixture
def message(acme: Tenant, bob: User) -> Message:
    with tenant_context(acme), transaction.atomic():
        message, _ = send_message(to=bob.email, template="welcome_user", context={})
    return message


def job_of(message: Message) -> Job:
    assert message.job is not None
    return Job.objects.get(pk=message.job)


def shown(client: APIClient, message: Message) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/api/v1/messages/{message.pk}/").json()
    return body


def listed(client: APIClient, status: str) -> list[str]:
    return [found["id"] for found in client.get(f"/api/v1/messages/?status={status}").json()["results"]]


def die(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(state="dead", tag=None, error="WorkerLost: it was killed three times")


def die_and_be_discarded(job: Job) -> None:
    die(job)
    assert endings.discard(job)


def be_cancelled(job: Job) -> None:
    assert endings.cancel(job)


def is_poison(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(kills=3, attempt=3, tag=None)


def has_no_task(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(unknown_since="2000-01-01T00:00Z")


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (die, "WorkerLost: it was killed three times"),
        (die_and_be_discarded, "Its job ended before the message was sent"),
        (be_cancelled, "Its job ended before the message was sent"),
        (is_poison, "killed"),
        (has_no_task, "No worker"),
    ],
)
def test_a_message_whose_job_ended_without_sending_it_is_failed(
    message: Message, owner: APIClient, run_jobs: RunJobs, end: Callable[[Job], None], reason: str
) -> None:
    assert shown(owner, message)["status"] == "queued"
    assert listed(owner, "queued") == [str(message.pk)]

    end(job_of(message))
    run_jobs()

    body = shown(owner, message)
    assert body["status"] == "failed"
    assert reason in body["error"]
    assert (listed(owner, "queued"), listed(owner, "failed")) == ([], [str(message.pk)])
    assert mail.outbox == []


@pytest.mark.parametrize("end", [is_poison, has_no_task])
def test_the_row_says_so_too_as_soon_as_the_dead_jobs_errback_has_run(
    acme: Tenant, message: Message, run_jobs: RunJobs, end: Callable[[Job], None]
) -> None:
    """So that whoever asks for what has changed hears of it."""
    end(job_of(message))
    run_jobs()
    with tenant_context(acme):
        message.refresh_from_db()
    assert message.status == "failed"
    assert message.error.startswith(("Poison", "Unknown", "NotRegistered"))


def test_an_errback_that_comes_late_leaves_a_message_alone_that_is_to_be_sent_again(
    acme: Tenant, message: Message
) -> None:
    with tenant_context(acme):
        delivery.record_loss(message_id=str(message.pk))
        message.refresh_from_db()
    assert message.status == "queued"


def test_a_message_whose_dead_job_runs_again_is_queued_and_then_sent(
    message: Message, owner: APIClient, run_jobs: RunJobs
) -> None:
    job = job_of(message)
    die(job)
    assert owner.post(f"/api/v1/jobs/{job.pk}/retry/").status_code == 202
    assert shown(owner, message)["status"] == "queued"
    run_jobs()
    body = shown(owner, message)
    assert (body["status"], body["error"], body["job"]) == ("sent", "", str(job.pk))


def test_a_message_of_the_release_before_is_what_its_row_says(acme: Tenant, owner: APIClient) -> None:
    with tenant_context(acme):
        message = Message.objects.create(to="bob@acme.example", subject="Hello", text="Text", html="Html")
    assert shown(owner, message)["status"] == "queued"


def test_somebody_who_was_deactivated_meanwhile_gets_no_mail(
    acme: Tenant, bob: User, message: Message, owner: APIClient, run_jobs: RunJobs
) -> None:
    with tenant_context(acme):
        User.objects.filter(pk=bob.pk).update(is_active=False)
        Message.objects.update(to=bob.email.upper())
    run_jobs()
    assert mail.outbox == []
    body = shown(owner, message)
    assert (body["status"], body["attempts"]) == ("failed", 0)
    assert "not active" in body["error"]
    assert not Job.objects.exists()


def test_whoever_has_no_account_gets_their_mail(acme: Tenant, run_jobs: RunJobs) -> None:
    with tenant_context(acme), transaction.atomic():
        send_message(to="somebody@else.example", template="welcome_user", context={})
    run_jobs()
    assert len(mail.outbox) == 1
