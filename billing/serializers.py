from typing import Any
from uuid import UUID

from rest_framework import serializers

from billing.currencies import CURRENCIES
from billing.models import Invoice, Order, OrderLine

MAX_LINES = 100
# Their product times MAX_LINES fits the total's 64 bits.
MAX_QUANTITY = 10_000
MAX_UNIT_AMOUNT = 10**12


class OrderLineSerializer(serializers.ModelSerializer[OrderLine]):
    quantity = serializers.IntegerField(min_value=1, max_value=MAX_QUANTITY)
    unit_amount = serializers.IntegerField(
        min_value=0, max_value=MAX_UNIT_AMOUNT, help_text="In the currency's minor unit (cents)"
    )

    class Meta:
        model = OrderLine
        fields = ("description", "quantity", "unit_amount")


class OrderSerializer(serializers.ModelSerializer[Order]):
    currency = serializers.CharField(min_length=3, max_length=3, help_text="ISO 4217, in capitals")
    payment_token = serializers.CharField(max_length=200, write_only=True, help_text="The provider's, for a card")
    lines: serializers.ListSerializer[Any] = serializers.ListSerializer(
        child=OrderLineSerializer(), min_length=1, max_length=MAX_LINES
    )

    invoice = serializers.SerializerMethodField(help_text="Its id; null until it is written")

    class Meta:
        model = Order
        read_only_fields = (
            "id",
            "status",
            "total_amount",
            "jobs",
            "placed_by",
            "invoice",
            "created_at",
            "updated_at",
        )
        fields = ("currency", "payment_token", "lines", *read_only_fields)

    def get_invoice(self, order: Order) -> UUID | None:
        # A new order has none, and need not be asked for it.
        return order.invoice.pk if order.billed_at else None

    def validate_currency(self, code: str) -> str:
        if code not in CURRENCIES:
            raise serializers.ValidationError(f"{code} is no currency of ISO 4217; give a code such as EUR.")
        return code

    def validate_lines(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not any(line["unit_amount"] for line in lines):
            raise serializers.ValidationError("There is nothing to pay: give a line a unit_amount above 0.")
        return lines


class InvoiceSerializer(serializers.ModelSerializer[Invoice]):
    class Meta:
        model = Invoice
        fields = ("id", "number", "order", "status", "currency", "total_amount", "created_at", "updated_at", "paid_at")
        read_only_fields = fields
