"""The Celery app. It imports no models: `config/__init__` loads it before Django's apps."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import django
from celery import Celery, Task
from celery.backends.base import Backend
from celery.result import AsyncResult
from celery.utils import uuid
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu.messaging import Producer
from kombu.transport import TRANSPORT_ALIASES
from structlog.contextvars import get_contextvars

from jobs.celery_hooks.signatures import keep_tenants, mapped_schema, refuse_mixed_chord
from jobs.message import HEADER, QUEUE, durable_header
from tenants.binding import bind_to_public
from tenants.connection import connection

keep_tenants()

# By the scheme of the broker's URL. Celery's `broker_transport` would override any scheme, and kombu ignores it after a
# fail-over.
TRANSPORT_ALIASES |= {
    "redis": "jobs.celery_hooks.broker:Transport",
    "rediss": "jobs.celery_hooks.broker:Transport",
    "amqp": "jobs.celery_hooks.rabbitmq:Transport",
    "amqps": "jobs.celery_hooks.rabbitmq:SSLTransport",
}


class JobToSend(Protocol):
    """What the message of a durable job is made of."""

    @property
    def id(self) -> Any: ...
    @property
    def task(self) -> str: ...
    @property
    def schema(self) -> str: ...
    @property
    def soft_limit(self) -> float | None: ...
    @property
    def hard_limit(self) -> float | None: ...
    @property
    def request_id(self) -> str: ...


class TenantCelery(Celery):
    """Celery whose messages say which schema they belong to: the one that is active when a task is called."""

    task_cls = "jobs.task:TenantTask"
    backend_cls: str | type[Backend] | None

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: Any = None,
        task_id: str | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
        tenant_schema: str | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Every dispatch but an eager one passes here: calls, canvas, retries, `replace`, errbacks, beat."""
        _set_up_django()
        self.refuse_foreign(self._tasks.get(name))
        schema = tenant_schema or mapped_schema(name, kwargs) or connection.schema_name
        refuse_mixed_chord(options, schema)
        return super().send_task(
            name,
            args,
            kwargs,
            countdown,
            eta,
            task_id or uuid(),
            headers={**(headers or {}), HEADER: {"schema": schema, "request_id": get_contextvars().get("request_id")}},
            **options,
        )

    def send_job(self, job: JobToSend, *, producer: Producer) -> None:
        """Publish the message of a durable job: no more than its id, for the arguments stay in its row."""
        # By Celery's own parts of `send_task`, most of which is for what such a message does not have.
        message = self.amqp.as_task_v2(
            str(job.id),
            job.task,
            time_limit=job.hard_limit,
            soft_time_limit=job.soft_limit,
            ignore_result=True,
            argsrepr="…",
            kwargsrepr="…",
        )
        producer.publish(
            message.body,
            routing_key=QUEUE,
            serializer=self.conf.task_serializer,
            headers={**message.headers, HEADER: durable_header(job.schema, job.request_id)},
            **message.properties,
        )

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 -- Celery's name
        """The class of `celery worker`."""
        return self.subclass_with_self("jobs.worker.process:TenantWorker")

    def _get_backend(self) -> Backend:
        _set_up_django()
        # Celery itself prefers the environment's CELERY_RESULT_BACKEND, in which `django-db` names the stock class.
        self.backend_cls = self.backend_cls or settings.CELERY_RESULT_BACKEND
        return super()._get_backend()

    def refuse_foreign(self, task: Task[Any, Any] | None) -> None:
        """Raise ImproperlyConfigured for a task that would run without regard to tenants."""
        if task is not None and not getattr(task, "knows_its_tenant", False):
            raise ImproperlyConfigured(
                f"Task {task.name} does not derive from jobs.task.TenantTask, so it would run in no particular tenant. "
                "Leave `base` out, or derive it from TenantTask."
            )


def _set_up_django() -> None:
    """For `celery call`, `celery result` and the like: Celery itself does this for workers and beat alone."""
    if not apps.models_ready:
        django.setup()
        bind_to_public()
