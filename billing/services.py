"""What the API does to orders. Billing goes on in jobs; billing/tasks.py has the steps."""

from collections.abc import Sequence
from typing import TypedDict
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing import tasks
from billing.errors import OrderCancelled, OrderPaid, PaymentInProgress, PaymentUnsettled, TooManyPayments
from billing.models import Invoice, Order, OrderLine, Payment
from jobs.status import find_status

#: Cards that may be tried for an order: each is in its answers, and in those of its invoice.
MAX_PAYMENTS = 10
#: States of a job that has not ended
UNDER_WAY = ("pending", "started", "retry")


class NewLine(TypedDict):
    """A line of an order; `unit_amount` is in the currency's minor unit."""

    description: str
    quantity: int
    unit_amount: int


@transaction.atomic
def place_order(*, placed_by: str, currency: str, payment_token: str, lines: Sequence[NewLine]) -> Order:
    """Write the order of a user (an id), and dispatch its billing. Amounts are in minor units; the total is above 0."""
    total = sum(line["quantity"] * line["unit_amount"] for line in lines)
    order = Order(placed_by_id=placed_by, currency=currency, payment_token=payment_token, total_amount=total)
    order.jobs = [tasks.bill_order.delay_on_commit(str(order.pk))]
    order.save()
    OrderLine.objects.bulk_create(OrderLine(order=order, position=n, **line) for n, line in enumerate(lines, 1))
    return order


@transaction.atomic
def retry_payment(*, order_id: UUID, payment_token: str) -> Payment:
    """Charge another card for an order whose payment failed. Returns the new payment.

    Raises OrderPaid, OrderCancelled, PaymentInProgress, PaymentUnsettled, TooManyPayments.
    """
    order = Order.objects.lock(pk=order_id)
    if order.status == Order.Status.CANCELLED:
        raise OrderCancelled
    if order.billed_at is None:
        raise PaymentInProgress
    _require_unpaid_and_settled(order)
    if Payment.objects.filter(invoice__order=order).count() >= MAX_PAYMENTS:
        raise TooManyPayments
    Order.objects.filter(pk=order.pk).update(status=Order.Status.PENDING, payment_token=payment_token)
    Invoice.objects.filter(order=order).update(status=Invoice.Status.OPEN)
    return tasks.start_payment(Invoice.objects.select_related("order").get(order=order))


@transaction.atomic
def cancel_order(*, order_id: UUID) -> None:
    """End an order that is not paid: no card is charged for it, and no reminder is written.

    Once: a repeated call changes nothing. Raises OrderPaid, PaymentInProgress, PaymentUnsettled.
    """
    order = Order.objects.lock(pk=order_id)
    if order.status == Order.Status.CANCELLED:
        return
    _require_unpaid_and_settled(order)
    Order.objects.filter(pk=order.pk).update(status=Order.Status.CANCELLED, payment_token="")
    Invoice.objects.filter(order=order).update(status=Invoice.Status.CANCELLED)


def _require_unpaid_and_settled(order: Order) -> None:
    """Raise unless no card was charged for the order, and none will be. The order is locked."""
    if order.status == Order.Status.PAID:
        raise OrderPaid
    pending = Payment.objects.filter(invoice__order=order, status=Payment.Status.PENDING).first()
    if pending is not None:
        _abandon(pending)


def _abandon(payment: Payment) -> None:
    """Give up a payment whose job is gone, because somebody cancelled or discarded it. Raises while it is there."""
    job = find_status(str(payment.job)) if payment.job else None
    if payment.job is None or (job is not None and job.state in UNDER_WAY):
        raise PaymentInProgress
    if job is not None and job.state == "dead":
        raise PaymentUnsettled
    payment.status = Payment.Status.ABANDONED
    payment.reason = "Its job was cancelled or discarded before the outcome was known"
    payment.settled_at = timezone.now()
    payment.save(update_fields=["status", "reason", "settled_at"])


def may_have_charged() -> bool:
    """Whether a card was charged for an order of this schema, or may have been: only a declined one was surely not."""
    return Payment.objects.exclude(status=Payment.Status.DECLINED).exists()
