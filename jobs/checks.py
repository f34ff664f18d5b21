"""Django system checks: each misconfiguration has an id, a message and a remedy. No process starts on errors."""

import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

from celery import Celery
from celery.app import app_or_default
from celery.utils.imports import symbol_by_name
from django.conf import settings
from django.core import mail
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from jobs.beat import TenantScheduler
from jobs.celery_hooks.app import TenantCelery
from jobs.celery_hooks.backends import FollowsTenant
from jobs.celery_hooks.internals import tasks_per_connection
from jobs.servers import check_broker, check_caches, warn_of_eviction
from jobs.task import TenantTask
from jobs.times import seconds
from tenants.role import verify_role

logger = logging.getLogger(__name__)

PICKLE = {"pickle", "application/x-python-serialize"}


def refuse_to_start(**kwargs: Any) -> None:
    """For a worker: what `refuse_to_start_beat` says, and that of the role. Raises SystemExit."""
    refuse_to_start_beat()
    verify_role()


def refuse_to_start_beat(**kwargs: Any) -> None:
    """For beat: what `refuse_errors` says, and a warning of a broker that drops queues. Raises SystemExit."""
    refuse_errors()
    warn_of_eviction(app_or_default())


def refuse_errors(*, exit_code: int = 1) -> None:
    """For whom nobody runs Django's checks: web, worker and beat. Raises SystemExit on errors; warnings are logged."""
    warnings = StringIO()
    try:
        call_command("check", stdout=StringIO(), stderr=warnings)
    except SystemCheckError as errors:
        logger.critical("This process does not start, since its configuration would break promises. %s", errors)
        raise SystemExit(exit_code) from None
    if warnings.getvalue():
        logger.warning("%s", warnings.getvalue().strip())


@register
def check_project(**kwargs: Any) -> list[CheckMessage]:
    """What Django's `check` runs: the settings, and the Celery app."""
    project = [*_atomic_requests(), *_results_app(), *check_caches()]
    app = app_or_default()
    return [*project, *check_broker(app), *check_app(app)]


def check_app(app: Celery) -> Iterator[CheckMessage]:
    """What is wrong with a Celery app."""
    if not isinstance(app, TenantCelery):
        yield Error(
            f"The Celery app is a {type(app).__name__}, which knows no tenants.",
            hint="Make it a jobs.celery_hooks.app.TenantCelery, and import it in the project's __init__.py.",
            id="jobs.E002",
        )
        return
    yield from _foreign_tasks(app)
    yield from _eager_mode(app)
    yield from _result_backend(app)
    yield from _default_task(app)
    yield from _time_limits(app)
    yield from _odd_limits(app)
    yield from _soft_limit(app)
    yield from _connection_reuse(app)
    yield from _beat_scheduler(app)
    yield from _pickle(app)


def _foreign_tasks(app: TenantCelery) -> Iterator[CheckMessage]:
    for task in app.tasks.values():
        try:
            app.refuse_foreign(task)
        except ImproperlyConfigured as reason:
            yield Error(str(reason), hint="Leave `base` out, or derive it from jobs.task.TenantTask.", id="jobs.E001")


def _eager_mode(app: TenantCelery) -> Iterator[CheckMessage]:
    in_a_test = hasattr(mail, "outbox")  # which is there between set-up and teardown of Django's test environment
    if app.conf.task_always_eager and not in_a_test:
        yield Error(
            "Tasks run inside the request that calls them: CELERY_TASK_ALWAYS_EAGER is set.",
            hint="Remove it. In tests use the run_jobs fixture.",
            id="jobs.E003",
        )


def _atomic_requests() -> Iterator[CheckMessage]:
    for alias, database in settings.DATABASES.items():
        if database.get("ATOMIC_REQUESTS"):
            yield Error(
                f"ATOMIC_REQUESTS is on for the database {alias!r}: each request would be one transaction, held open "
                "until its response is made, and errors that a view handles would undo what its services committed.",
                hint="Remove it: services own their transactions.",
                id="jobs.E004",
            )


def _result_backend(app: TenantCelery) -> Iterator[CheckMessage]:
    if not isinstance(app.backend, FollowsTenant):
        yield Error(
            f"The result backend, {type(app.backend).__name__}, does not follow tenants: results would land in "
            "whatever schema is active, or nowhere.",
            hint="Set CELERY_RESULT_BACKEND to django-db or django-cache; config/settings.py has their classes.",
            id="jobs.E005",
        )


def _default_task(app: TenantCelery) -> Iterator[CheckMessage]:
    if not issubclass(app.Task, TenantTask):
        yield Error(
            f"The default task class is {app.Task.__name__}, so a @shared_task would run in no particular tenant.",
            hint="Leave the app's task_cls as it is, or derive yours from jobs.task.TenantTask.",
            id="jobs.E006",
        )


def _results_app() -> Iterator[CheckMessage]:
    for name in ("SHARED_APPS", "TENANT_APPS"):
        if "django_celery_results" not in getattr(settings, name):
            yield Error(
                f"django_celery_results is not in {name}: public and each tenant need a table of results.",
                hint="Name it in both. If it was migrated in one place before, migrate_schemas may have nothing to do: "
                "migrate the app to zero there, first.",
                id="jobs.E007",
            )


def _time_limits(app: TenantCelery) -> Iterator[CheckMessage]:
    limitless = sorted(task.name for task in app.tasks.values() if not (task.time_limit or app.conf.task_time_limit))
    if limitless:
        yield Error(
            f"Tasks without a hard time limit, which leases follow: {', '.join(limitless)}.",
            hint="Set JOB_HARD_TIME_LIMIT (CELERY_TASK_TIME_LIMIT), in seconds.",
            id="jobs.E008",
        )


def _odd_limits(app: TenantCelery) -> Iterator[CheckMessage]:
    limits = [(task, name) for task in app.tasks.values() for name in ("time_limit", "soft_time_limit")]
    for task, name in limits:
        try:
            seconds(getattr(task, name) or 0, name)
        except (TypeError, ValueError) as error:
            yield Error(
                f"The task {task.name} has a limit that no lease can follow: {error}",
                hint=f"Give it a number of seconds as its {name}, or leave it out.",
                id="jobs.E011",
            )


def _soft_limit(app: TenantCelery) -> Iterator[CheckMessage]:
    hard, soft = app.conf.task_time_limit, app.conf.task_soft_time_limit
    if hard and soft and soft > hard:
        yield Error(
            f"The soft time limit, {soft} s, is above the hard one, {hard} s: tasks would be killed before they are "
            "asked to stop.",
            hint="Lower JOB_SOFT_TIME_LIMIT (CELERY_TASK_SOFT_TIME_LIMIT), or raise JOB_HARD_TIME_LIMIT.",
            id="jobs.E013",
        )


def _connection_reuse(app: TenantCelery) -> Iterator[CheckMessage]:
    if not tasks_per_connection(app):
        yield CheckWarning(
            "Workers connect to the database anew for each task, and do a third of the work that they could.",
            hint="Set WORKER_TASKS_PER_CONNECTION (CELERY_DB_REUSE_MAX) to some 1000 tasks.",
            id="jobs.W001",
        )


def _beat_scheduler(app: TenantCelery) -> Iterator[CheckMessage]:
    name = app.conf.beat_scheduler
    try:
        scheduler = symbol_by_name(name)
    except (ImportError, AttributeError, ValueError):
        scheduler = None
    if not (isinstance(scheduler, type) and issubclass(scheduler, TenantScheduler)):
        yield Error(
            f"Beat's scheduler is {name!r}, whose runs go straight to the broker: a killed beat, or a broker that is "
            "away, loses them.",
            hint='Set CELERY_BEAT_SCHEDULER to "jobs.beat:TenantScheduler".',
            id="jobs.E010",
        )


def _pickle(app: TenantCelery) -> Iterator[CheckMessage]:
    names = ("accept_content", "result_accept_content", "task_serializer", "result_serializer")
    values = {name: app.conf[name] or () for name in names}
    pickling = [name for name, value in values.items() if PICKLE & ({value} if isinstance(value, str) else {*value})]
    if pickling:
        yield Error(
            f"Celery's {' and '.join(pickling)} may be pickle: whoever writes to the broker runs code in the workers.",
            hint='Set CELERY_ACCEPT_CONTENT, CELERY_TASK_SERIALIZER and the like to "json".',
            id="jobs.E012",
        )
