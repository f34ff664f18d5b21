"""Billing goes in steps: order → payment → receipt. Each may run again and changes nothing then, as Celery advises."""

from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.utils import timezone

from tests.peers.shop import tasks
from tests.peers.shop.models import Order, OrderLine, Payment


@transaction.atomic
def place_order(*, placed_by: User, key: str | None, lines: list[dict[str, Any]], **fields: Any) -> Order:
    """An order that comes again with its key is the one that there is."""
    fields["total_amount"] = sum(line["quantity"] * line["unit_amount"] for line in lines)
    if key is None:
        order, created = Order.objects.create(placed_by=placed_by, **fields), True
    else:
        order, created = Order.objects.get_or_create(placed_by=placed_by, key=key, defaults=fields)
    if created:
        OrderLine.objects.bulk_create(OrderLine(order=order, position=n, **line) for n, line in enumerate(lines, 1))
        tasks.bill_order.delay_on_commit(str(order.pk))
    return order


@transaction.atomic
def bill_order(*, order_id: str) -> None:
    payment, created = Payment.objects.get_or_create(order_id=order_id)
    if created:
        tasks.charge_payment.delay_on_commit(str(payment.pk))


def charge_payment(*, payment_id: str) -> None:
    payment = Payment.objects.select_related("order").get(pk=payment_id)
    if payment.settled_at is None:
        settle_payment(payment, charge_id=charge(payment))


def charge(payment: Payment) -> str:
    order = payment.order
    response = httpx.post(
        f"{settings.CARD_GATEWAY_URL}/charges",
        headers={"Idempotency-Key": str(payment.pk)},
        json={
            "amount": order.total_amount,
            "currency": order.currency,
            "token": order.payment_token,
            "reference": str(order.pk),
            "tenant": getattr(connection, "schema_name", "public"),
        },
        timeout=settings.CARD_GATEWAY_TIMEOUT,
    )
    return str(response.raise_for_status().json()["id"])


@transaction.atomic
def settle_payment(payment: Payment, *, charge_id: str) -> None:
    unsettled = Payment.objects.filter(pk=payment.pk, settled_at=None)
    if unsettled.update(charge_id=charge_id, settled_at=timezone.now()):
        Order.objects.filter(pk=payment.order_id).update(status=Order.Status.PAID, payment_token="")
        tasks.send_receipt.delay_on_commit(str(payment.order_id))


def send_receipt(*, order_id: str) -> None:
    order = Order.objects.select_related("placed_by").get(pk=order_id)
    if order.receipt_sent_at is None:
        transmit(order)
        Order.objects.filter(pk=order.pk).update(receipt_sent_at=timezone.now())


def transmit(order: Order) -> None:
    headers = {"Message-ID": f"<{order.pk}@localhost>"}
    EmailMessage("Receipt", f"Order {order.pk} is paid.", to=[order.placed_by.email], headers=headers).send()
