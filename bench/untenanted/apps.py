from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """The product's app `tenants`, without what it connects to requests."""

    name = "tenants"
