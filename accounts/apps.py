from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class AccountsConfig(AppConfig):
    name = "accounts"


class StaffAdminConfig(admin_apps.AdminConfig):
    """Django's admin, with our own site."""

    default = False  # Django would take it for the config of this app
    default_site = "accounts.staff.StaffSite"
