"""Django's entry for this app."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """The tenants: which are there, and in which schema each of them lives."""

    name = "tenants"
