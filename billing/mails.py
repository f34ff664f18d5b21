"""The mails about an invoice."""

from typing import Any

from django.urls import reverse

from billing.currencies import format_amount
from billing.models import Invoice, OrderLine
from notifications.services import send_message
from tenants.services import current_tenant, domain_of


def send_receipt(invoice: Invoice) -> str:
    """Tell the customer that the invoice is paid, and for what. Returns the id of the job that sends the mail."""
    return _send(invoice, "receipt", lines=_priced_lines(invoice))


def send_payment_failure(invoice: Invoice, *, reason: str) -> str:
    """Tell the customer that the card was declined, and why. Returns the id of the job that sends the mail."""
    return _send(invoice, "payment_failed", reason=reason, **_ways_on(invoice))


def send_reminder(invoice: Invoice) -> str:
    """Remind the customer of an unpaid invoice. Returns the id of the job that sends the mail."""
    return _send(invoice, "invoice_reminder", issued=invoice.created_at, **_ways_on(invoice))


def _send(invoice: Invoice, template: str, **context: Any) -> str:
    customer = invoice.order.placed_by
    total = format_amount(invoice.total_amount, invoice.currency)
    context = {"full_name": customer.full_name, "number": invoice.number, "total": total, **context}
    _, job_id = send_message(to=customer.email, template=template, context=context)
    return job_id


def _ways_on(invoice: Invoice) -> dict[str, str]:
    """Where another card can be tried, and the order be cancelled: addresses without a scheme, which no job knows."""
    host = domain_of(current_tenant().slug)
    pay_at, cancel_at = (reverse(name, args=[invoice.order_id]) for name in ("order-payments", "order-cancellation"))
    return {"pay_at": host + pay_at, "cancel_at": host + cancel_at}


def _priced_lines(invoice: Invoice) -> list[dict[str, Any]]:
    return [_priced(line, invoice.currency) for line in invoice.order.lines.all()]


def _priced(line: OrderLine, currency: str) -> dict[str, Any]:
    amount = format_amount(line.quantity * line.unit_amount, currency)
    return {"description": line.description, "quantity": line.quantity, "amount": amount}
