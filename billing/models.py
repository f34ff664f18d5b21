"""Amounts are integers of the currency's minor unit (cents); a currency is an ISO 4217 code."""

from collections.abc import Collection
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.aggregates import JSONBAgg
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q, UUIDField, Value
from django.db.models.functions import JSONArray, Now

from tenants.ids import new_id


class OrderManager(models.Manager["Order"]):
    def lock(self, **lookup: Any) -> "Order":
        """The one order that is looked up, locked until the caller's transaction ends.

        Whatever bills, pays or cancels an order locks it first, so that two of them can't both win.
        """
        return self.select_for_update(no_key=True, of=("self",)).get(**lookup)


class Order(models.Model):
    """What a user of the organisation ordered. Its status follows its last payment, until it is cancelled."""

    class Status(models.TextChoices):
        PENDING = "pending"
        PAID = "paid"
        PAYMENT_FAILED = "payment_failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    status = models.CharField(max_length=20, choices=Status, default=Status.PENDING)
    currency = models.CharField(max_length=3)
    total_amount = models.BigIntegerField()
    payment_token = models.CharField(max_length=200, blank=True, help_text="Cleared when the payment is settled")
    placed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    jobs = ArrayField(models.UUIDField(), default=list, help_text="What the order has dispatched so far, oldest first")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)  # a trigger sets it
    billed_at = models.DateTimeField(null=True)

    objects: ClassVar[OrderManager] = OrderManager()

    class Meta:
        indexes = (models.Index(fields=["updated_at", "id"], name="order_updated"),)
        constraints = (models.CheckConstraint(condition=Q(total_amount__gt=0), name="order_total_positive"),)

    def __str__(self) -> str:
        return str(self.pk)

    def add_job(self, job_id: str) -> None:
        """Append a job's id to `jobs` in the database, whatever other transactions append meanwhile."""
        appended = Func(F("jobs"), Value(job_id, output_field=UUIDField()), function="array_append")
        Order.objects.filter(pk=self.pk).update(jobs=appended)


class OrderLineManager(models.Manager["OrderLine"]):
    def by_order(self, orders: Collection[UUID]) -> dict[UUID, list[tuple[str, int, int]]]:
        """Description, quantity and unit amount of each line, in its order, by the orders' ids.

        The database puts them together: a page of orders may have twenty thousand, and an object for each takes long.
        """
        line = JSONArray("description", "quantity", "unit_amount")
        found = self.filter(order__in=orders).order_by().values("order_id")
        return dict(found.annotate(shown=JSONBAgg(line, order_by="position")).values_list("order_id", "shown"))


class OrderLine(models.Model):
    """One line of an order, in the order of `position`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveSmallIntegerField()
    description = models.CharField(max_length=500)
    quantity = models.PositiveIntegerField()
    unit_amount = models.BigIntegerField()

    objects: ClassVar[OrderLineManager] = OrderLineManager()

    class Meta:
        ordering = ("position",)
        constraints = (
            models.UniqueConstraint(fields=["order", "position"], name="order_line_position"),
            models.CheckConstraint(condition=Q(quantity__gte=1, unit_amount__gte=0), name="order_line_amounts"),
        )

    def __str__(self) -> str:
        return f"{self.quantity} × {self.description}"  # noqa: RUF001


class InvoiceCounter(models.Model):
    """One row: the last number given out. Its lock, held until the commit, is what makes the numbers gapless."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    last_number = models.BigIntegerField()

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="invoice_counter_single"),)

    def __str__(self) -> str:
        return str(self.last_number)


class Invoice(models.Model):
    """The one invoice of an order. Its number is gapless within the organisation."""

    class Status(models.TextChoices):
        OPEN = "open"
        PAID = "paid"
        PAYMENT_FAILED = "payment_failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    number = models.CharField(max_length=30, unique=True)
    order = models.OneToOneField(Order, on_delete=models.PROTECT)
    status = models.CharField(max_length=20, choices=Status, default=Status.OPEN)
    currency = models.CharField(max_length=3)
    total_amount = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)  # a trigger sets it
    paid_at = models.DateTimeField(null=True)
    reminded_at = models.DateTimeField(null=True)
    reminders = models.PositiveSmallIntegerField(default=0, db_default=0, help_text="How many were written")

    class Meta:
        indexes = (
            models.Index(fields=["created_at"], condition=~Q(status="paid"), name="invoice_unpaid"),
            models.Index(fields=["updated_at", "id"], name="invoice_updated"),
        )

    def __str__(self) -> str:
        return self.number


class Payment(models.Model):
    """One card that is charged for an invoice. Its id is the idempotency key of every try to make that charge."""

    class Status(models.TextChoices):
        PENDING = "pending"
        SUCCEEDED = "succeeded"
        DECLINED = "declined"
        ABANDONED = "abandoned"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="payments", db_index=False)
    status = models.CharField(max_length=20, choices=Status, default=Status.PENDING)
    currency = models.CharField(max_length=3)
    amount = models.BigIntegerField()
    charge_id = models.CharField(max_length=200, blank=True, help_text="The gateway's name for the charge")
    reason = models.CharField(max_length=200, blank=True, help_text="Why it was declined, in the gateway's words")
    job = models.UUIDField(null=True, help_text="The job that charges the card")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)  # a trigger sets it
    settled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("id",)
        indexes = (
            models.Index(fields=["invoice"], name="payment_invoice"),
            models.Index(fields=["updated_at", "id"], name="payment_updated"),
        )
        # Whatever the code does: no second card while one is being charged, and none after one was.
        constraints = (
            models.UniqueConstraint(
                fields=["invoice"], condition=Q(status__in=["pending", "succeeded"]), name="payment_one_at_a_time"
            ),
        )

    def __str__(self) -> str:
        return str(self.pk)
