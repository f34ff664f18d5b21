import importlib
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import tenant_context

from billing import tasks
from billing.models import Invoice, Order, Payment
from tenants.connection import execute
from tenants.models import Tenant
from tests.billing.conftest import place_order
from tests.people import add_user

MIGRATION = importlib.import_module("billing.migrations.0002_many_payments")


@pytest.fixture
def billed(acme: Tenant) -> Order:
    order = place_order(acme, add_user(acme, "ada"))
    with tenant_context(acme), transaction.atomic():
        tasks.bill_order(str(order.pk))
    return order


def test_a_payment_names_the_job_that_charges_it(acme: Tenant, billed: Order) -> None:
    with tenant_context(acme):
        Payment.objects.update(job=None)
        execute(MIGRATION.NAME_JOBS, {})
        billed.refresh_from_db()
        assert Payment.objects.get().job == billed.jobs[1]


@pytest.mark.parametrize(
    ("reminded_after", "reminders"), [(None, 0), (3, 1), (14, 1), (20, 1), (21, 2), (27, 2), (28, 3), (400, 3)]
)
def test_reminders_are_counted_as_they_were_due(
    acme: Tenant, billed: Order, reminded_after: int | None, reminders: int
) -> None:
    written = timezone.now() - timedelta(days=500)
    reminded_at = None if reminded_after is None else written + timedelta(days=reminded_after, hours=1)
    with tenant_context(acme):
        Invoice.objects.update(created_at=written, reminded_at=reminded_at)
        execute(MIGRATION.COUNT_REMINDERS, {})
        assert Invoice.objects.get().reminders == reminders
