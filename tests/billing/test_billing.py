"""Order → invoice → charge → receipt, through the real outbox, with the card sink as the gateway."""

from collections.abc import Callable

import pytest
from django.core import mail
from django.db import transaction
from django_tenants.utils import tenant_context
from pytest_django import Settings

from billing import charging, tasks
from billing.gateways import Charge
from billing.models import Invoice, InvoiceCounter, Order, Payment
from devstack import cards
from jobs.models import Job
from notifications.models import Message
from tenants.models import Tenant
from tests.billing.conftest import place_order
from tests.people import add_user, at_once

RunJobs = Callable[..., int]


@pytest.fixture
def order(acme: Tenant) -> Order:
    return place_order(acme, add_user(acme, "ada"))


def billed(order: Order) -> Payment:
    with transaction.atomic():
        tasks.bill_order(str(order.pk))
    return Payment.objects.get(invoice__order=order)


def settled(payment: Payment, *, succeeded: bool = True) -> None:
    with transaction.atomic():
        charge = Charge(id="ch_1", succeeded=succeeded, reason="" if succeeded else "card_declined")
        charging.settle_payment(payment_id=str(payment.pk), charge=charge)


def waiting_tasks() -> list[str]:
    return list(Job.objects.order_by("seq").values_list("task", flat=True))


def test_an_order_ends_as_one_paid_invoice_one_charge_and_one_receipt(
    acme: Tenant, globex: Tenant, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    orders = {tenant: place_order(tenant, add_user(tenant, "ada")) for tenant in (acme, globex)}
    run_jobs()
    for tenant, order in orders.items():
        with tenant_context(tenant):
            [invoice] = Invoice.objects.all()
            assert (invoice.order_id, invoice.number, invoice.status) == (order.pk, "INV-000001", "paid")
            order.refresh_from_db()
            assert (order.status, order.payment_token, len(order.jobs)) == ("paid", "", 3)
            [payment] = Payment.objects.all()
            [call] = card_sink.calls(str(payment.pk))
            assert (call["tenant"], call["amount"], call["reference"]) == (tenant.slug, 2500, "INV-000001")
            assert payment.status == "succeeded"
            [message] = Message.objects.all()
            assert (message.to, message.status) == (f"ada@{tenant.slug}.example", "sent")
    assert len(card_sink.calls(None)) == 2
    assert sorted(sent.body.split()[-1] for sent in mail.outbox) == ["Acme", "Globex"]


def test_the_receipt_says_what_was_bought(acme: Tenant, card_sink: cards.Ledger, run_jobs: RunJobs) -> None:
    place_order(acme, add_user(acme, "ada"))
    run_jobs()
    [receipt] = mail.outbox
    assert receipt.subject == "Receipt for invoice INV-000001"
    assert "2 x Tea: 25.00 EUR" in receipt.body
    assert "Total: 25.00 EUR" in receipt.body


def test_a_declined_card_fails_the_order_and_tells_the_customer(
    acme: Tenant, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    order = place_order(acme, add_user(acme, "ada"), token="tok_declined")
    run_jobs()
    with tenant_context(acme):
        order.refresh_from_db()
        assert (order.status, order.payment_token, len(order.jobs)) == ("payment_failed", "", 3)
        assert Invoice.objects.get().status == "payment_failed"
        assert (Payment.objects.get().status, Payment.objects.get().reason) == ("declined", "card_declined")
    [told] = mail.outbox
    assert told.subject == "Payment of invoice INV-000001 failed"
    assert "card_declined" in told.body


def test_a_gateway_that_is_silent_after_the_charge_charges_once(
    acme: Tenant, card_sink: cards.Ledger, run_jobs: RunJobs, settings: Settings
) -> None:
    settings.CARD_GATEWAY_TIMEOUT = 1
    order = place_order(acme, add_user(acme, "ada"), token="tok_timeout")
    run_jobs(limit=2)
    with tenant_context(acme):
        order.refresh_from_db()
        assert order.status == "pending"
    run_jobs(ahead=True)
    with tenant_context(acme):
        order.refresh_from_db()
        assert order.status == "paid"
        key = str(Payment.objects.get().pk)
    assert [(call["key"], call["outcome"]) for call in card_sink.calls(None)] == [(key, "charged"), (key, "replayed")]


def test_a_worker_that_dies_between_charge_and_completion_charges_once(
    acme: Tenant, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    order = place_order(acme, add_user(acme, "ada"))
    run_jobs(limit=1)
    with tenant_context(acme):
        charging.request_charge(Payment.objects.get())
    run_jobs()
    with tenant_context(acme):
        order.refresh_from_db()
        assert order.status == "paid"
    assert [call["outcome"] for call in card_sink.calls(None)] == ["charged", "replayed"]


def test_a_gateway_that_stays_away_leaves_a_dead_job_and_a_pending_order(
    acme: Tenant, run_jobs: RunJobs, settings: Settings
) -> None:
    settings.CARD_GATEWAY_URL = "http://127.0.0.1:1"
    order = place_order(acme, add_user(acme, "ada"))
    while run_jobs(ahead=True):
        pass
    [job] = Job.objects.all()
    assert (job.task, job.state, job.retries) == ("billing.tasks.charge_payment", "dead", 30)
    assert "No answer from the card gateway" in job.error
    with tenant_context(acme):
        order.refresh_from_db()
        assert (order.status, order.payment_token) == ("pending", "tok_ok")


def test_a_rollback_of_the_order_bills_nothing(acme: Tenant, card_sink: cards.Ledger, run_jobs: RunJobs) -> None:
    user = add_user(acme, "ada")
    with tenant_context(acme), transaction.atomic():
        place_order(acme, user)
        transaction.set_rollback(True)
    assert run_jobs() == 0
    assert card_sink.calls(None) == []


def test_billing_twice_makes_one_invoice_and_uses_one_number(acme: Tenant, order: Order) -> None:
    with tenant_context(acme):
        assert billed(order) == billed(order)
        assert InvoiceCounter.objects.get().last_number == 1
    assert waiting_tasks() == ["billing.tasks.bill_order", "billing.tasks.charge_payment"]


def test_an_unknown_order_is_an_error_that_uses_no_number(acme: Tenant, globex: Tenant, order: Order) -> None:
    with tenant_context(globex):
        with pytest.raises(Order.DoesNotExist):
            billed(order)
        assert not InvoiceCounter.objects.exists()


def test_settling_twice_writes_one_receipt(acme: Tenant, order: Order) -> None:
    with tenant_context(acme):
        payment = billed(order)
        settled(payment)
        settled(payment)
        assert Message.objects.count() == 1


@pytest.mark.usefixtures("committed_db")
def test_settling_at_once_writes_one_receipt(acme: Tenant) -> None:
    order = place_order(acme, add_user(acme, "ada"))
    with tenant_context(acme):
        payment = billed(order)

    def settle_here() -> None:
        with tenant_context(acme):
            settled(payment)

    at_once(*[settle_here] * 4)
    with tenant_context(acme):
        order.refresh_from_db()
        assert (order.status, len(order.jobs), Message.objects.count()) == ("paid", 3, 1)


def test_what_is_settled_stays_settled(acme: Tenant, order: Order) -> None:
    with tenant_context(acme):
        payment = billed(order)
        settled(payment)
        settled(payment, succeeded=False)
        order.refresh_from_db()
        assert (order.status, Invoice.objects.get().status, Message.objects.count()) == ("paid", "paid", 1)


def test_a_settled_payment_is_not_charged_again(acme: Tenant, order: Order, card_sink: cards.Ledger) -> None:
    with tenant_context(acme):
        payment = billed(order)
        settled(payment)
        charge = charging.request_charge(charging.find_payment(payment_id=str(payment.pk)))
    assert charge == Charge(id="ch_1", succeeded=True)
    assert card_sink.calls(None) == []


def test_order_and_invoice_turn_in_one_commit(acme: Tenant, order: Order) -> None:
    with tenant_context(acme):
        payment = billed(order)
        with transaction.atomic():
            settled(payment)
            transaction.set_rollback(True)
        order.refresh_from_db()
        payment.refresh_from_db()
        assert (order.status, Invoice.objects.get().status, payment.status) == ("pending", "open", "pending")
        assert not Message.objects.exists()
