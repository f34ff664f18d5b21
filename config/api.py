"""The whole v1 API."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from billing.views import InvoiceViewSet, OrderViewSet
from notifications.views import MessageViewSet

public = SimpleRouter()
tenant = SimpleRouter()
tenant.register("messages", MessageViewSet)
tenant.register("orders", OrderViewSet)
tenant.register("invoices", InvoiceViewSet)

documentation = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(), name="docs"),
]
public_urls = [*public.urls, *documentation]
tenant_urls = [*tenant.urls, *documentation]

# The OpenAPI schema describes both hosts.
urlpatterns = [path("api/v1/", include([*public.urls, *tenant.urls]))]
