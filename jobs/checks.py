"""Django system checks: each misconfiguration has an id, a message and a remedy. A worker runs them when it starts."""

from typing import Any

from celery import current_app
from django.core.checks import Error, register
from django.core.exceptions import ImproperlyConfigured

from jobs.app import TenantCelery


@register
def foreign_tasks(**kwargs: Any) -> list[Error]:
    app = current_app._get_current_object()
    if not isinstance(app, TenantCelery):
        return [
            Error(
                f"The Celery app is a {type(app).__name__}, which knows no tenants.",
                hint="Make it a jobs.app.TenantCelery, and import it in the project's __init__.py.",
                id="jobs.E002",
            )
        ]
    return [error for task in app.tasks.values() if (error := _foreign(app, task))]


def _foreign(app: TenantCelery, task: Any) -> Error | None:
    try:
        app.refuse_foreign(task)
    except ImproperlyConfigured as reason:
        return Error(str(reason), hint="Leave `base` out, or derive it from jobs.task.TenantTask.", id="jobs.E001")
    return None
