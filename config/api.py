"""The whole v1 API."""

from django.urls import include, path
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from accounts.views import (
    ConfirmationsView,
    CurrentTokenView,
    OrganisationView,
    PasswordResetsView,
    PasswordsView,
    TenantViewSet,
    TokensView,
    UserViewSet,
)
from billing.views import InvoiceViewSet, OrderViewSet, PaymentViewSet
from config.schema_view import SchemaView
from jobs.views import JobViewSet
from notifications.views import MessageViewSet

public = SimpleRouter()
public.register("tenants", TenantViewSet)

tenant = SimpleRouter(use_regex_path=False)
tenant.register("users", UserViewSet)
tenant.register("jobs", JobViewSet)
tenant.register("messages", MessageViewSet)
tenant.register("orders", OrderViewSet)
tenant.register("invoices", InvoiceViewSet)
tenant.register("payments", PaymentViewSet)

singles = [
    path("organisation/", OrganisationView.as_view(), name="organisation"),
    path("tokens/", TokensView.as_view(), name="tokens"),
    path("tokens/current/", CurrentTokenView.as_view(), name="current-token"),
    path("confirmations/", ConfirmationsView.as_view(), name="confirmations"),
    path("password-resets/", PasswordResetsView.as_view(), name="password-resets"),
    path("passwords/", PasswordsView.as_view(), name="passwords"),
]
documentation = [
    path("schema/", SchemaView.as_view(), name="schema"),
    # Its OPTIONS would be metadata, for which it has no template.
    path(
        "docs/",
        SpectacularSwaggerSplitView.as_view(template_name="docs.html", http_method_names=["get", "head"]),
        name="docs",
    ),
]
public_urls = [*public.urls, *documentation]
tenant_urls = [*singles, *tenant.urls, *documentation]

# The OpenAPI schema describes both hosts.
urlpatterns = [path("api/v1/", include([*public.urls, *singles, *tenant.urls]))]
