"""The tasks of this app."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import current_app, shared_task

from jobs import outbox


@shared_task
def run_in_each_tenant(
    task: str, args: Sequence[Any], kwargs: Mapping[str, Any], expire_seconds: float | None = None
) -> int:
    """Dispatch a task in each active tenant, for a schedule that runs there. Returns how many tenants these are."""
    registered = current_app.tasks.get(task)
    default = registered and registered.expires
    options = {} if expire_seconds is None else {"expires": expire_seconds}
    return outbox.insert_for_each_tenant(outbox.Terms.of(task, options, expires=default), args, kwargs)
