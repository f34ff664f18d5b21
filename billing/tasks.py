"""The steps of billing: order → invoice → charge → receipt. Each dispatches the next in its own transaction."""

from typing import Any
from uuid import UUID

from celery import shared_task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from django.db import transaction

from billing import charging, invoicing, reminders
from billing.gateways import GatewayUnavailable
from billing.models import Invoice, Payment


@shared_task
def bill_order(order_id: str) -> dict[str, str]:
    """Write the order's invoice, and dispatch its charge. Once: a repeated call changes nothing."""
    invoice, is_new = invoicing.invoice_order(order_id=order_id)
    if invoice is None:
        raise Ignore("The order was cancelled")
    if is_new:
        start_payment(invoice)
    return {"invoice": invoice.number}


def start_payment(invoice: Invoice) -> Payment:
    """Write a payment of the invoice with the order's card, and dispatch its charge. Needs the caller's transaction."""
    payment = Payment(invoice=invoice, currency=invoice.currency, amount=invoice.total_amount)
    job_id = charge_payment.delay_on_commit(str(payment.pk))
    payment.job = UUID(job_id)
    payment.save(force_insert=True)
    invoice.order.add_job(job_id)
    return payment


# Tried for some hours. When that is in vain the job is dead, and a replay goes on with the same idempotency key.
@shared_task(
    bind=True,
    atomic=False,
    autoretry_for=(GatewayUnavailable, SoftTimeLimitExceeded),
    retry_backoff=1,
    retry_backoff_max=600,
    max_retries=30,
)
def charge_payment(self: Any, payment_id: str) -> None:
    """Charge the payment, then settle it with its order and its invoice, and write the mail about it."""
    with self.before_call():
        payment = charging.find_payment(payment_id=payment_id)
    charge = charging.request_charge(payment)
    with self.completion() as done:
        done.result = charging.settle_payment(payment_id=payment_id, charge=charge)


@shared_task(runs_in="public")
@transaction.atomic
def remind_all_tenants() -> int:
    """Dispatch the reminders of every active tenant. Returns how many tenants these are."""
    dispatched: int = remind_unpaid_invoices.for_each_tenant_on_commit()
    return dispatched


@shared_task
def remind_unpaid_invoices() -> int:
    """Remind of one batch of unpaid invoices; a full batch dispatches the next. Returns how many there were."""
    reminded = reminders.remind_unpaid_invoices()
    if reminded == reminders.REMINDERS_PER_JOB:
        remind_unpaid_invoices.delay_on_commit()
    return reminded
