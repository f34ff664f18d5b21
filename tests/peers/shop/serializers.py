from typing import Any

from rest_framework import serializers

from tests.peers.shop.models import Order, OrderLine


class OrderLineSerializer(serializers.ModelSerializer[OrderLine]):
    class Meta:
        model = OrderLine
        fields = ("description", "quantity", "unit_amount")


class OrderSerializer(serializers.ModelSerializer[Order]):
    payment_token = serializers.CharField(max_length=200, write_only=True)
    lines: serializers.ListSerializer[Any] = serializers.ListSerializer(child=OrderLineSerializer(), min_length=1)

    class Meta:
        model = Order
        read_only_fields = ("id", "status", "total_amount", "placed_by", "created_at")
        fields = ("currency", "payment_token", "lines", *read_only_fields)
