"""Amounts are integers of the currency's minor unit."""

import uuid

from django.conf import settings
from django.db import models


class Order(models.Model):
    class Status(models.TextChoices):
        PENDING = "pending"
        PAID = "paid"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    key = models.CharField(max_length=255, null=True)  # noqa: DJ001  # where the client gave none
    status = models.CharField(max_length=20, choices=Status, default=Status.PENDING)
    currency = models.CharField(max_length=3)
    total_amount = models.BigIntegerField()
    payment_token = models.CharField(max_length=200, blank=True)
    placed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    receipt_sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["placed_by", "key"], name="order_key"),)

    def __str__(self) -> str:
        return str(self.pk)


class OrderLine(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveSmallIntegerField()
    description = models.CharField(max_length=500)
    quantity = models.PositiveIntegerField()
    unit_amount = models.BigIntegerField()

    class Meta:
        ordering = ("position",)

    def __str__(self) -> str:
        return self.description


class Payment(models.Model):
    """The one charge of an order. Its id is the idempotency key of every try to make that charge."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.OneToOneField(Order, on_delete=models.PROTECT)
    charge_id = models.CharField(max_length=200, blank=True)
    settled_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.pk)
