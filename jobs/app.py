"""The Celery app. It imports no models: `config/__init__` loads it before Django's apps."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import django
from celery import Celery, Task
from celery.backends.base import Backend
from celery.canvas import Signature
from celery.result import AsyncResult
from celery.utils import uuid
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu.messaging import Producer
from structlog.contextvars import get_contextvars

from tenants.connection import connection

if TYPE_CHECKING:
    from jobs.relay import Due

# The message header that says where a task belongs: {"schema": …}, and {"durable": true} for a durable job.
HEADER = "tenantry"
# The option that carries it through signatures and `apply_async`. Unlike headers, options of a signature are merged key
# by key, with those of the call, so a caller's own headers can't hide it.
OPTION = "tenant_schema"
# The builtin tasks that run another task's body: the tenant is that task's.
MAPS = {"celery.map", "celery.starmap"}


def header_of(message: Any) -> dict[str, Any]:
    """What a message's headers, or the request that was made of them, say of where it belongs; empty if that makes no
    sense.
    """
    header = message.get(HEADER)
    return header if isinstance(header, dict) else {}


def is_durable(message: Any) -> bool:
    return bool(header_of(message).get("durable"))


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
        schema = tenant_schema or _mapped_schema(name, kwargs) or connection.schema_name
        _refuse_mixed_chord(options.get("chord"), schema)
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

    def send_job(self, job: "Due", *, producer: Producer) -> None:
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
        home = {"schema": job.schema, "durable": True, "request_id": job.request_id}
        producer.publish(
            message.body,
            routing_key="jobs",
            serializer=self.conf.task_serializer,
            headers={**message.headers, HEADER: home},
            **message.properties,
        )

    def _get_backend(self) -> Backend:
        _set_up_django()
        # Celery itself prefers the environment's CELERY_RESULT_BACKEND, in which `django-db` names the stock class.
        self.backend_cls = self.backend_cls or settings.CELERY_RESULT_BACKEND
        return super()._get_backend()

    def refuse_foreign(self, task: Task[Any, Any] | None) -> None:
        """Raise ImproperlyConfigured for a task that would run without regard to tenants."""
        from jobs.task import TenantTask

        if task is not None and not isinstance(task, TenantTask):
            raise ImproperlyConfigured(
                f"Task {task.name} does not derive from jobs.task.TenantTask, so it would run in no particular tenant. "
                "Leave `base` out, or derive it from TenantTask."
            )


def _set_up_django() -> None:
    """For `celery call`, `celery result` and the like: Celery itself does this for workers and beat alone."""
    if not apps.models_ready:
        django.setup()


def _keeping_tenant(init: Callable[..., None]) -> Callable[..., None]:
    """Let a signature that is built inside a tenant keep that tenant; one built in `public` takes its sender's.

    Celery has no hook where `signature("a.name")` and `Signature(task)` are built, so their class gets one.
    """

    @wraps(init)
    def keeping(self: Signature[Any], task: Any = None, *args: Any, **kwargs: Any) -> None:
        init(self, task, *args, **kwargs)
        # Not one that is built from a dict, as clones and received ones are; nor chains, groups and the like: options
        # of theirs would override those of their members.
        if type(self) is not Signature or isinstance(task, dict) or not apps.models_ready:
            return
        if connection.schema_name != "public":
            self["options"].setdefault(OPTION, connection.schema_name)

    return keeping


Signature.__init__ = _keeping_tenant(Signature.__init__)


def _mapped_schema(name: str, kwargs: Mapping[str, Any] | None) -> str | None:
    if name not in MAPS or not kwargs:
        return None
    schema: str | None = kwargs["task"]["options"].get(OPTION)
    return schema


def _refuse_mixed_chord(body: Mapping[str, Any] | None, schema: str) -> None:
    # The header's parts are counted, and their results collected, where the body belongs.
    home = body["options"].get(OPTION) if body else None
    if home is not None and home != schema:
        raise ValueError(
            f"The chord's body belongs to schema {home!r}, a task of its header to {schema!r}: build both in one tenant"
        )
