from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from django_tenants.utils import tenant_context

from accounts.models import User
from billing import reminders, tasks
from billing.models import Invoice, Order
from jobs.models import Job
from notifications.models import Message
from tenants.models import Tenant
from tenants.services import update_tenant
from tests.billing.conftest import place_order
from tests.people import add_user, at_once

RunJobs = Callable[..., int]


def add_invoice(tenant: Tenant, *, days_old: int, status: str = "open") -> Invoice:
    with tenant_context(tenant):
        user = add_user(tenant, f"user{Order.objects.count()}")
        order = place_order(tenant, user)
        with transaction.atomic():
            tasks.bill_order(str(order.pk))
        Invoice.objects.filter(order=order).update(created_at=timezone.now() - timedelta(days=days_old), status=status)
        return Invoice.objects.get(order=order)


def remind(tenant: Tenant) -> int:
    with tenant_context(tenant), transaction.atomic():
        reminded: int = tasks.remind_unpaid_invoices()
        return reminded


@pytest.mark.parametrize("status", ["open", "payment_failed"])
def test_an_old_unpaid_invoice_is_reminded_of_once_a_week(acme: Tenant, status: str) -> None:
    invoice = add_invoice(acme, days_old=15, status=status)
    assert remind(acme) == 1
    assert remind(acme) == 0
    with tenant_context(acme):
        [message] = Message.objects.all()
        assert (message.to, message.subject) == ("user0@acme.example", f"Invoice {invoice.number} is unpaid")
        assert "25.00 EUR" in message.text
        Invoice.objects.update(reminded_at=timezone.now() - timedelta(days=8))
    assert remind(acme) == 1


@pytest.mark.parametrize(
    ("zone", "date"), [("Pacific/Auckland", "1 January 2026"), ("UTC", "31 December 2025"), ("America/Lima", "31")]
)
def test_it_is_dated_by_the_organisations_calendar(acme: Tenant, zone: str, date: str) -> None:
    """It is half past midnight on New Year's Day in Auckland."""
    invoice = add_invoice(acme, days_old=15)
    update_tenant(acme, timezone=zone)
    with tenant_context(acme):
        Invoice.objects.filter(pk=invoice.pk).update(created_at=datetime(2025, 12, 31, 11, 30, tzinfo=UTC))
    assert remind(acme) == 1
    with tenant_context(acme):
        message = Message.objects.get()
    assert f"invoice {invoice.number} of {date}" in message.text
    assert f"invoice {invoice.number} of {date}" in message.html


def test_what_is_young_or_paid_is_left_alone(acme: Tenant) -> None:
    add_invoice(acme, days_old=13)
    add_invoice(acme, days_old=15, status="paid")
    assert remind(acme) == 0


def test_an_invoice_is_reminded_of_three_times_at_the_most(acme: Tenant) -> None:
    add_invoice(acme, days_old=15)
    reminded = []
    for _ in range(5):
        reminded.append(remind(acme))
        with tenant_context(acme):
            Invoice.objects.update(reminded_at=timezone.now() - timedelta(days=8))
    assert reminded == [1, 1, 1, 0, 0]


def test_a_customer_who_is_not_active_is_not_reminded(acme: Tenant) -> None:
    add_invoice(acme, days_old=15)
    with tenant_context(acme):
        User.objects.update(is_active=False)
    assert remind(acme) == 0
    with tenant_context(acme):
        assert Invoice.objects.get().reminders == 0


def test_a_reminder_says_of_which_day_the_invoice_is_and_how_to_pay_it(acme: Tenant) -> None:
    invoice = add_invoice(acme, days_old=15, status="payment_failed")
    with tenant_context(acme):
        Invoice.objects.update(created_at=datetime(2026, 1, 1, 0, 30, tzinfo=UTC))
    remind(acme)
    with tenant_context(acme):
        message = Message.objects.get()
    for form in (message.text, message.html):
        assert f"invoice {invoice.number} of 1 January 2026 over 25.00 EUR" in form
        assert f"POST acme.localhost/api/v1/orders/{invoice.order_id}/payments/" in form
        assert f"POST acme.localhost/api/v1/orders/{invoice.order_id}/cancellation/" in form


def test_the_rest_goes_to_the_next_job(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminders, "REMINDERS_PER_JOB", 2)
    for _ in range(3):
        add_invoice(acme, days_old=15)
    Job.objects.all().delete()
    assert remind(acme) == 2
    assert Job.objects.filter(task="billing.tasks.remind_unpaid_invoices").count() == 1
    assert remind(acme) == 1
    assert Job.objects.filter(task="billing.tasks.remind_unpaid_invoices").count() == 1


def test_every_active_tenant_gets_its_own_job(acme: Tenant, globex: Tenant, run_jobs: RunJobs) -> None:
    for tenant in (acme, globex):
        add_invoice(tenant, days_old=15)
    Job.objects.all().delete()
    assert tasks.remind_all_tenants() == 2
    run_jobs()
    for tenant in (acme, globex):
        with tenant_context(tenant):
            assert Message.objects.count() == 1


def test_a_suspended_tenant_gets_none(acme: Tenant, globex: Tenant) -> None:
    Tenant.objects.filter(pk=globex.pk).update(status=Tenant.Status.SUSPENDED)
    assert tasks.remind_all_tenants() == 1
    assert Job.objects.get().tenant_id == acme.pk


@pytest.mark.usefixtures("committed_db")
def test_an_invoice_that_is_being_paid_right_now_is_left_alone(acme: Tenant) -> None:
    """The payment's transaction holds the row's lock."""
    invoice = add_invoice(acme, days_old=15)

    def remind_impatiently() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        return remind(acme)

    with tenant_context(acme), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(status="paid")
        assert at_once(remind_impatiently) == [0]
