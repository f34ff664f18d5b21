"""What the API does to orders. Billing goes on in jobs; billing/tasks.py has the steps."""

from collections.abc import Sequence
from typing import TypedDict

from django.db import transaction

from billing import tasks
from billing.models import Order, OrderLine


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
