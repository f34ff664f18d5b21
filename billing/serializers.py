from typing import Any
from uuid import UUID

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from billing.currencies import CURRENCIES, unknown_currency
from billing.models import Invoice, Order, OrderLine, Payment
from tenants.strict import LineField, StrictSerializer
from tenants.validators import validate_printable

MAX_LINES = 100
MAX_QUANTITY = 10_000
MAX_UNIT_AMOUNT = 10**12
# JavaScript and many JSON parsers know no larger integer exactly.
MAX_TOTAL = 2**53 - 1


class CurrencyField(serializers.CharField):
    """A code of ISO 4217. Those that the schema lists are taken; an answer may name one that was withdrawn since."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=3, max_length=3, help_text="ISO 4217, in capitals", **kwargs)

    def to_internal_value(self, data: Any) -> str:
        code: str = super().to_internal_value(data)
        if code not in CURRENCIES:
            raise serializers.ValidationError(unknown_currency(code))
        return code


class CurrencySchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # registers itself
    """Lists the codes, where one is asked for."""

    target_class = CurrencyField

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """As drf-spectacular has it."""
        return {"type": "string", "enum": sorted(CURRENCIES)} if direction == "request" else {"type": "string"}


class PaymentTokenField(serializers.CharField):
    """What the provider gave for a card. It is passed on as it is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=200, help_text="The provider's, for a card", **kwargs)

    def to_internal_value(self, data: Any) -> str:
        token: str = super().to_internal_value(data)
        validate_printable(token)
        return token


class OrderLineSerializer(StrictSerializer, serializers.ModelSerializer[OrderLine]):
    description = LineField(max_length=500)
    quantity = serializers.IntegerField(min_value=1, max_value=MAX_QUANTITY)
    unit_amount = serializers.IntegerField(
        min_value=0,
        max_value=MAX_UNIT_AMOUNT,
        help_text="In the currency's minor unit (cents), as a JSON integer: 12, not 12.0",
    )

    class Meta:
        model = OrderLine
        fields = ("description", "quantity", "unit_amount")


class LinesField(serializers.ListSerializer[Any]):
    """The lines of an order: of one, or of each order of a list, which has read them already."""

    default_error_messages = {"not_a_list": "Give a list."}  # noqa: RUF012  # as in DRF

    def get_attribute(self, instance: Order) -> list[tuple[str, int, int]]:
        """As DRF's, for `OrderListSerializer.to_representation`."""
        lines = getattr(instance, "listed_lines", None)
        return OrderLine.objects.by_order([instance.pk]).get(instance.pk, []) if lines is None else lines

    def to_representation(self, data: Any) -> list[dict[str, Any]]:
        """The fields of `OrderLineSerializer`, as they are stored."""
        return [
            {"description": description, "quantity": quantity, "unit_amount": unit_amount}
            for description, quantity, unit_amount in data
        ]


class OrderListSerializer(serializers.ListSerializer[Any]):
    """Orders, whose lines are read by one query."""

    def to_representation(self, data: Any) -> list[Any]:
        """As DRF's."""
        lines = OrderLine.objects.by_order([order.pk for order in data])
        for order in data:
            order.listed_lines = lines.get(order.pk, [])
        return super().to_representation(data)


class OrderSerializer(StrictSerializer, serializers.ModelSerializer[Order]):
    currency = CurrencyField()
    payment_token = PaymentTokenField(write_only=True)
    invoice = serializers.SerializerMethodField(help_text="Its id; null until the order is billed")
    lines = LinesField(
        child=OrderLineSerializer(),
        min_length=1,
        max_length=MAX_LINES,
        help_text=f"Their total, the sum of quantity times unit_amount, is from 1 to {MAX_TOTAL}",
    )

    class Meta:
        model = Order
        list_serializer_class = OrderListSerializer
        read_only_fields = (
            "id", "status", "total_amount", "invoice", "jobs", "placed_by", "created_at", "updated_at",
        )  # fmt: skip
        fields = ("currency", "payment_token", "lines", *read_only_fields)

    def get_invoice(self, order: Order) -> UUID | None:
        # A new order has none, and need not be asked for it.
        return order.invoice.pk if order.billed_at else None

    def validate_lines(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        total = sum(line["quantity"] * line["unit_amount"] for line in lines)
        if total == 0:
            raise serializers.ValidationError(
                "There is nothing to pay: give a line a unit_amount above 0.", "min_value"
            )
        if total > MAX_TOTAL:
            raise serializers.ValidationError(f"The total is {total}; it may be {MAX_TOTAL} at the most.", "max_value")
        return lines


class NewPaymentSerializer(StrictSerializer):
    payment_token = PaymentTokenField()


class PaymentSerializer(serializers.ModelSerializer[Payment]):
    order = serializers.UUIDField(source="invoice.order_id")

    class Meta:
        model = Payment
        fields = (
            "id", "order", "invoice", "status", "reason", "currency", "amount", "job", "created_at",
            "updated_at", "settled_at",
        )  # fmt: skip
        read_only_fields = fields


class InvoiceSerializer(serializers.ModelSerializer[Invoice]):
    payments = PaymentSerializer(many=True, help_text="Each card that was tried, oldest first")

    class Meta:
        model = Invoice
        fields = (
            "id", "number", "order", "status", "currency", "total_amount", "payments", "created_at", "updated_at",
            "paid_at",
        )  # fmt: skip
        read_only_fields = fields
