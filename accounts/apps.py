from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.contrib.admin import apps as admin_apps
from django.db.models.signals import post_migrate

from jobs.daily import add_daily_schedule


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import checks  # noqa: F401

        post_migrate.connect(add_nightly_schedules, sender=self)


class StaffAdminConfig(admin_apps.AdminConfig):
    """Django's admin, with our own site."""

    default = False  # Django would take it for the config of this app
    default_site = "accounts.staff.StaffSite"


def add_nightly_schedules(apps: Apps, **kwargs: Any) -> None:
    """Every night."""
    task = "accounts.tasks.expire_unconfirmed_tenants"
    add_daily_schedule(apps, name="Delete tenants that nobody confirmed", task=task, hour=4)
    task = "accounts.tasks.forget_expired_sessions"
    add_daily_schedule(apps, name="Forget expired sessions", task=task, hour=4, minute=15)
