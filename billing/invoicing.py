"""From an order to its invoice."""

from django.utils import timezone

from billing.models import Invoice, Order, Payment
from tenants.connection import connection


def invoice_order(*, order_id: str) -> tuple[Invoice, bool]:
    """Write the order's invoice, with the payment that is to be charged. Returns the invoice, and whether it is new.

    Once: a repeated call changes nothing. Needs the caller's transaction.
    """
    order = Order.objects.get(pk=order_id)
    is_first_call = Order.objects.filter(pk=order.pk, billed_at=None).update(billed_at=timezone.now())
    if not is_first_call:
        return Invoice.objects.get(order=order), False
    invoice = Invoice.objects.create(
        order=order,
        number=_next_invoice_number(),
        currency=order.currency,
        total_amount=order.total_amount,
    )
    Payment.objects.create(invoice=invoice, currency=order.currency, amount=order.total_amount)
    return invoice, True


def _next_invoice_number() -> str:
    """Lock the counter until the caller's transaction ends, so that a rollback leaves no gap."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_invoicecounter (id, last_number) VALUES (1, 1)
            ON CONFLICT (id) DO UPDATE SET last_number = billing_invoicecounter.last_number + 1
            RETURNING last_number
            """
        )
        return f"INV-{cursor.fetchone()[0]:06}"
