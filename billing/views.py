from typing import Any

from django_filters import rest_framework as filters
from rest_framework.mixins import CreateModelMixin, ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from billing.models import Invoice, Order
from billing.serializers import InvoiceSerializer, OrderSerializer
from billing.services import place_order
from idempotency.views import idempotent
from tenants.filters import IdFilter, TimeFilter


class OrderFilter(filters.FilterSet):
    created_after = TimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = TimeFilter(field_name="created_at", lookup_expr="lte")

    class Meta:
        model = Order
        fields = ("status", "currency")


class OrderViewSet(CreateModelMixin, ListModelMixin, RetrieveModelMixin, GenericViewSet[Order]):
    """An order is billed in the background: `jobs` are the ids of what it has dispatched so far, oldest first."""

    queryset = Order.objects.prefetch_related("lines")
    serializer_class = OrderSerializer
    filterset_class = OrderFilter

    @idempotent()
    def create(self, request: Request) -> Response:
        return super().create(request)

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = place_order(placed_by=str(self.request.user.pk), **serializer.validated_data)


class InvoiceFilter(filters.FilterSet):
    order = IdFilter(field_name="order_id")
    created_after = TimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = TimeFilter(field_name="created_at", lookup_expr="lte")

    class Meta:
        model = Invoice
        fields = ("status", "currency")


class InvoiceViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Invoice]):
    """The organisation's invoices. Their numbers have no gaps."""

    queryset = Invoice.objects.all()
    serializer_class = InvoiceSerializer
    filterset_class = InvoiceFilter
