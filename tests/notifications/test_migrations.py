import importlib
from uuid import uuid4

import pytest
from django.db import transaction
from django_tenants.utils import tenant_context

from jobs.models import Job
from notifications.models import Message
from notifications.services import send_message
from tenants.connection import execute
from tenants.models import Tenant

MIGRATION = importlib.import_module("notifications.migrations.0002_message_job")


@pytest.fixture
def queued(acme: Tenant) -> Message:
    with tenant_context(acme), transaction.atomic():
        message, _ = send_message(to="ada@acme.example", template="welcome_user", context={})
    return message


def migrate(acme: Tenant, message: Message) -> Message:
    with tenant_context(acme):
        Message.objects.update(job=None)
        execute(MIGRATION.NAME_JOBS, {})
        execute(MIGRATION.FAIL_WHAT_IS_LOST, {})
        message.refresh_from_db()
    return message


def test_a_queued_message_names_the_job_that_sends_it(acme: Tenant, queued: Message) -> None:
    job = queued.job
    migrated = migrate(acme, queued)
    assert (migrated.status, migrated.job) == ("queued", job)


def test_one_that_has_lost_its_job_is_failed(acme: Tenant, queued: Message) -> None:
    Job.objects.update(id=uuid4(), args="[]")
    migrated = migrate(acme, queued)
    assert (migrated.status, migrated.job) == ("failed", None)
    assert migrated.error == "Its job ended before the message was sent"


def test_one_that_was_sent_stays_as_it_was(acme: Tenant, queued: Message) -> None:
    Job.objects.all().delete()
    with tenant_context(acme):
        Message.objects.update(status="sent")
    assert migrate(acme, queued).status == "sent"
