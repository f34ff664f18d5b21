from typing import Any

from django_filters import rest_framework as filters
from rest_framework.mixins import CreateModelMixin, ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from billing.models import Invoice, Order
from billing.serializers import InvoiceSerializer, OrderSerializer
from billing.services import place_order
from idempotency.views import idempotent


class OrderFilter(filters.FilterSet):
    placed_by = filters.UUIDFilter(field_name="placed_by_id")
    created = filters.IsoDateTimeFromToRangeFilter(field_name="created_at")
    updated_after = filters.IsoDateTimeFilter(field_name="updated_at", lookup_expr="gte")
    updated_before = filters.IsoDateTimeFilter(field_name="updated_at", lookup_expr="lte")

    class Meta:
        model = Order
        fields = ("status", "currency")


class OrderViewSet(CreateModelMixin, ListModelMixin, RetrieveModelMixin, GenericViewSet[Order]):
    """An order is billed in the background: `jobs` are the ids of what it has dispatched so far, oldest first."""

    queryset = Order.objects.select_related("invoice").prefetch_related("lines")
    serializer_class = OrderSerializer
    filterset_class = OrderFilter
    lookup_value_converter = "id"

    @idempotent()
    def create(self, request: Request) -> Response:
        return super().create(request)

    def get_success_headers(self, data: Any) -> dict[str, str]:
        return {"Location": reverse("order-detail", kwargs={"pk": data["id"]}, request=self.request)}

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = place_order(placed_by=str(self.request.user.pk), **serializer.validated_data)


class InvoiceFilter(filters.FilterSet):
    order = filters.UUIDFilter(field_name="order_id")
    placed_by = filters.UUIDFilter(field_name="order__placed_by_id")
    created = filters.IsoDateTimeFromToRangeFilter(field_name="created_at")
    updated_after = filters.IsoDateTimeFilter(field_name="updated_at", lookup_expr="gte")
    updated_before = filters.IsoDateTimeFilter(field_name="updated_at", lookup_expr="lte")

    class Meta:
        model = Invoice
        fields = ("number", "status", "currency")


class InvoiceViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Invoice]):
    """The organisation's invoices. Their numbers have no gaps."""

    queryset = Invoice.objects.all()
    serializer_class = InvoiceSerializer
    filterset_class = InvoiceFilter
    lookup_value_converter = "id"
