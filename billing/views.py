from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import CreateModelMixin, ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from billing.filters import CurrencyFilter
from billing.models import Invoice, Order, Payment
from billing.serializers import InvoiceSerializer, NewPaymentSerializer, OrderSerializer, PaymentSerializer
from billing.services import cancel_order, place_order, retry_payment
from idempotency.views import idempotent
from tenants.errors import answers
from tenants.filters import IdFilter, TimesFilterSet
from tenants.strict import StrictSerializer


class OrderFilter(TimesFilterSet):
    currency = CurrencyFilter()
    placed_by = IdFilter(field_name="placed_by_id")

    class Meta:
        model = Order
        fields = ("status",)


class OrderViewSet(CreateModelMixin, ListModelMixin, RetrieveModelMixin, GenericViewSet[Order]):
    """The organisation's orders. `jobs` are the ids of what an order has dispatched so far, oldest first."""

    queryset = Order.objects.select_related("invoice")
    serializer_class = OrderSerializer
    filterset_class = OrderFilter
    lookup_value_converter = "id"

    @idempotent()
    def create(self, request: Request) -> Response:
        """Place an order. It is billed in the background: `jobs` are the ids of what it has dispatched."""
        return super().create(request)

    def get_success_headers(self, data: Any) -> dict[str, str]:
        return {"Location": reverse("order-detail", kwargs={"pk": data["id"]}, request=self.request)}

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = place_order(placed_by=str(self.request.user.pk), **serializer.validated_data)

    @answers("order_paid", "order_cancelled", "payment_in_progress", "payment_unsettled", "too_many_payments")
    @idempotent()
    @extend_schema(request=NewPaymentSerializer, responses={201: PaymentSerializer})
    @action(methods=["post"], detail=True)
    def payments(self, request: Request, pk: str) -> Response:
        """Try another card for an order whose payment failed. The charge is made in the background, by `job`."""
        order = self.get_object()
        asked = NewPaymentSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        payment = retry_payment(order_id=order.pk, **asked.validated_data)
        location = reverse("payment-detail", kwargs={"pk": payment.pk}, request=request)
        answer = PaymentSerializer(payment).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": location})

    @answers("order_paid", "payment_in_progress", "payment_unsettled")
    @extend_schema(request=None, responses=OrderSerializer)
    @action(methods=["post"], detail=True)
    def cancellation(self, request: Request, pk: str) -> Response:
        """Cancel an order that is not paid. A card that is being charged prevents it. Repeated, it changes nothing."""
        StrictSerializer(data=request.data).is_valid(raise_exception=True)  # a body says nothing here
        cancel_order(order_id=self.get_object().pk)
        return Response(self.get_serializer(self.get_object()).data)


class InvoiceFilter(TimesFilterSet):
    currency = CurrencyFilter()
    order = IdFilter(field_name="order_id")
    placed_by = IdFilter(field_name="order__placed_by_id")

    class Meta:
        model = Invoice
        fields = ("number", "status")


class InvoiceViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Invoice]):
    """The organisation's invoices. Their numbers have no gaps."""

    queryset = Invoice.objects.prefetch_related("payments")
    serializer_class = InvoiceSerializer
    filterset_class = InvoiceFilter
    lookup_value_converter = "id"


class PaymentFilter(TimesFilterSet):
    order = IdFilter(field_name="invoice__order_id")
    invoice = IdFilter(field_name="invoice_id")

    class Meta:
        model = Payment
        fields = ("status",)


class PaymentViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Payment]):
    """Each card that was tried for an invoice, and why it was declined."""

    queryset = Payment.objects.select_related("invoice")
    serializer_class = PaymentSerializer
    filterset_class = PaymentFilter
    lookup_value_converter = "id"
