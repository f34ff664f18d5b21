"""Billing goes in steps, and each dispatches the next in its own transaction: order → invoice → charge → receipt."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypedDict

from django.conf import settings
from django.db import transaction
from django.db.models import F, Func, Q, UUIDField, Value
from django.utils import timezone

from billing import tasks
from billing.currencies import format_amount
from billing.gateways import Charge, ChargeRequest, payment_gateway
from billing.models import Invoice, Order, OrderLine, Payment
from notifications.services import send_message
from tenants.connection import connection
from tenants.services import current_tenant

REMINDER_INTERVAL = timedelta(days=7)
REMINDERS_PER_JOB = 100


class NewLine(TypedDict):
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


def bill_order(*, order_id: str) -> dict[str, str]:
    """Write the order's invoice and payment, and dispatch the charge. Once: a repeated call changes nothing.

    Needs the caller's transaction.
    """
    order = Order.objects.get(pk=order_id)
    if Order.objects.filter(pk=order.pk, billed_at=None).update(billed_at=timezone.now()):
        amount = {"currency": order.currency, "total_amount": order.total_amount}
        invoice = Invoice.objects.create(order=order, number=_next_invoice_number(), **amount)
        payment = Payment.objects.create(invoice=invoice, currency=order.currency, amount=order.total_amount)
        _add_job(order, tasks.charge_payment.delay_on_commit(str(payment.pk)))
    return {"invoice": Invoice.objects.get(order=order).number}


def _next_invoice_number() -> str:
    """Locks the counter until the caller's transaction ends, so that one that rolls back leaves no gap."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_invoicecounter (id, last_number) VALUES (1, 1)
            ON CONFLICT (id) DO UPDATE SET last_number = billing_invoicecounter.last_number + 1
            RETURNING last_number
            """
        )
        return f"INV-{cursor.fetchone()[0]:06}"


def _add_job(order: Order, job_id: str) -> None:
    Order.objects.filter(pk=order.pk).update(
        jobs=Func(F("jobs"), Value(job_id, output_field=UUIDField()), function="array_append")
    )


def request_charge(*, payment_id: str) -> Charge:
    """Have the gateway charge a payment, with its id as idempotency key; needs no transaction.

    A payment that is settled keeps its outcome, without a call. Raises GatewayUnavailable, when another try may help
    (the payment stays pending until it is known what became of the charge), and GatewayError.
    """
    payment = Payment.objects.select_related("invoice__order").get(pk=payment_id)
    if payment.status != Payment.Status.PENDING:
        succeeded = payment.status == Payment.Status.SUCCEEDED
        return Charge(id=payment.charge_id, succeeded=succeeded, reason=payment.reason)
    return payment_gateway().charge(
        ChargeRequest(
            idempotency_key=str(payment.pk),
            amount=payment.amount,
            currency=payment.currency,
            token=payment.invoice.order.payment_token,
            reference=payment.invoice.number,
            tenant=current_tenant().slug,
        )
    )


def settle_payment(*, payment_id: str, charge: Charge) -> dict[str, str]:
    """Turn payment, invoice and order to what the charge came to, and write the mail about it. Once, as `bill_order`.

    Needs the caller's transaction.
    """
    status = Payment.Status.SUCCEEDED if charge.succeeded else Payment.Status.DECLINED
    settled = Payment.objects.filter(pk=payment_id, status=Payment.Status.PENDING).update(
        status=status, charge_id=charge.id, reason=charge.reason, settled_at=timezone.now()
    )
    if settled:
        invoice = Invoice.objects.select_related("order__placed_by").get(payment__pk=payment_id)
        _close(invoice, paid=charge.succeeded)
        _report(invoice, charge)
    return {"payment": payment_id, "charge": charge.id, "status": status}


def _close(invoice: Invoice, *, paid: bool) -> None:
    """Order and invoice turn at once, and the token goes: it has served."""
    if paid:
        Invoice.objects.filter(pk=invoice.pk).update(status=Invoice.Status.PAID, paid_at=timezone.now())
        Order.objects.filter(pk=invoice.order_id).update(status=Order.Status.PAID, payment_token="")
    else:
        Invoice.objects.filter(pk=invoice.pk).update(status=Invoice.Status.PAYMENT_FAILED)
        Order.objects.filter(pk=invoice.order_id).update(status=Order.Status.PAYMENT_FAILED, payment_token="")


def _report(invoice: Invoice, charge: Charge) -> None:
    template = "receipt" if charge.succeeded else "payment_failed"
    lines = [_priced(line, invoice.currency) for line in invoice.order.lines.all()]
    _add_job(invoice.order, _mail(invoice, template, lines=lines, reason=charge.reason))


def _priced(line: OrderLine, currency: str) -> dict[str, Any]:
    amount = format_amount(line.quantity * line.unit_amount, currency)
    return {"description": line.description, "quantity": line.quantity, "amount": amount}


def _mail(invoice: Invoice, template: str, **context: Any) -> str:
    """A mail about an invoice to whoever placed the order; the id of the job that sends it."""
    customer = invoice.order.placed_by
    invoiced = {"number": invoice.number, "total": format_amount(invoice.total_amount, invoice.currency)}
    context = {"full_name": customer.full_name, **invoiced, **context}
    _, job_id = send_message(to=customer.email, template=template, context=context)
    return job_id


@transaction.atomic
def remind_all_tenants() -> int:
    """Dispatch the reminders of every active tenant; how many."""
    dispatched: int = tasks.remind_unpaid_invoices.for_each_tenant_on_commit()
    return dispatched


def remind_unpaid_invoices() -> int:
    """Write a mail for each invoice that has been unpaid for INVOICE_REMINDER_DAYS, at most one a week. How many.

    Needs the caller's transaction. A job takes so many and leaves the rest to the next, to stay within its time limit.
    """
    invoices = _due_for_a_reminder()
    Invoice.objects.filter(pk__in=[invoice.pk for invoice in invoices]).update(reminded_at=timezone.now())
    for invoice in invoices:
        _mail(invoice, "invoice_reminder", issued=invoice.created_at)
    if len(invoices) == REMINDERS_PER_JOB:
        tasks.remind_unpaid_invoices.delay_on_commit()
    return len(invoices)


def _due_for_a_reminder() -> list[Invoice]:
    now = timezone.now()
    old = Q(created_at__lt=now - timedelta(days=settings.INVOICE_REMINDER_DAYS))
    not_reminded = Q(reminded_at=None) | Q(reminded_at__lt=now - REMINDER_INTERVAL)
    unpaid = Invoice.objects.exclude(status=Invoice.Status.PAID).filter(old, not_reminded)
    # One that is locked is being paid or reminded of right now.
    locked = unpaid.select_for_update(skip_locked=True, of=("self",)).select_related("order__placed_by")
    return list(locked.order_by("created_at")[:REMINDERS_PER_JOB])
