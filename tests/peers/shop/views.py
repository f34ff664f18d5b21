from typing import Any

from rest_framework.generics import CreateAPIView

from tests.peers.shop.models import Order
from tests.peers.shop.serializers import OrderSerializer
from tests.peers.shop.services import place_order


class OrdersView(CreateAPIView[Order]):
    serializer_class = OrderSerializer

    def perform_create(self, serializer: Any) -> None:
        key = self.request.headers.get("Idempotency-Key")
        serializer.instance = place_order(key=key, placed_by=self.request.user, **serializer.validated_data)
