"""From an order to its invoice."""

from django.utils import timezone

from billing.models import Invoice, Order
from tenants.connection import connection


def invoice_order(*, order_id: str) -> tuple[Invoice | None, bool]:
    """Write the order's invoice. Returns it, and whether it is new; None if the order was cancelled before.

    Once: a repeated call changes nothing. Needs the caller's transaction.
    """
    order = Order.objects.lock(pk=order_id)
    if order.billed_at is not None:
        return Invoice.objects.get(order=order), False
    if order.status == Order.Status.CANCELLED:
        return None, False
    order.billed_at = timezone.now()
    order.save(update_fields=["billed_at"])
    invoice = Invoice.objects.create(
        order=order,
        number=_next_invoice_number(),
        currency=order.currency,
        total_amount=order.total_amount,
    )
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
