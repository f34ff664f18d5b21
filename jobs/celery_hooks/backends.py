"""Celery's result backends, following the tenant of each request.

What the parent process stores for its children (hard limits, killed workers, revoked, expired, unregistered tasks)
passes here as well, so that it lands at home too.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from celery.app.task import Context
from celery.backends.base import KeyValueStoreBackend
from celery.worker import state as worker_state
from django.utils import timezone
from django_celery_results.backends.cache import CacheBackend
from django_celery_results.backends.database import DatabaseBackend
from django_tenants.utils import schema_context

from jobs import results
from jobs.errors import MAX_TRACEBACK, TOLD, describe, storable
from jobs.message import OPTION, is_durable
from jobs.schema import TenantUnavailable, check_available, schema_of_result
from tenants.connection import connection, retry_on_broken_connection
from tenants.context import copy_clean_context
from tenants.models import Tenant
from tenants.session import start_owner

logger = logging.getLogger(__name__)

CLEANUP_BATCH = 1000


class FollowsTenant:
    """Enters the schema of the request, for what is stored and what is dispatched then (errbacks, chord bodies).

    A durable job's outcome is stored by its own fenced statements alone: its requests pass here without a trace. So
    does what somebody stores by a job's id.
    """

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, *args: Any, **kwargs: Any) -> None:
        """Store a result, and dispatch callbacks, in the schema of the request."""
        with schema_context(schema_of_result(request)):
            super().mark_as_done(task_id, result, request, *args, **kwargs)  # type: ignore[misc]  # a mixin of backends

    def mark_as_failure(
        self, task_id: str, exc: Exception, traceback: Any = None, request: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """Store a failure, and dispatch errbacks, in the schema of the request."""
        with schema_context(schema_of_result(request)):
            super().mark_as_failure(task_id, exc, traceback, request, *args, **kwargs)  # type: ignore[misc]  # as above

    def mark_as_revoked(self, task_id: str, reason: str = "", request: Any = None, **kwargs: Any) -> None:
        """Store a revocation in the schema of the request; without one, of the message that this worker received."""
        request = request or _received(task_id)
        if request is None:
            return  # remote control told every worker; the one that receives the task stores this, with its request
        with schema_context(schema_of_result(request)):
            super().mark_as_revoked(task_id, reason, request, **kwargs)  # type: ignore[misc]  # as above

    def prepare_exception(self, exc: Any, serializer: str | None = None) -> Any:
        """As Celery's, with what members may read of it."""
        prepared = super().prepare_exception(exc, serializer)  # type: ignore[misc]  # as above
        return {**prepared, TOLD: describe(exc)} if isinstance(prepared, dict) else prepared

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        if is_durable(request) or (getattr(request, "id", None) != task_id and _is_job(task_id)):
            return result
        with schema_context(schema_of_result(request)):
            return self._store(task_id, result, state, traceback, request, **kwargs)

    def _store(self, *args: Any, **kwargs: Any) -> Any:
        return super()._store_result(*args, **kwargs)  # type: ignore[misc]  # as above

    def _call_task_errbacks(self, request: Any, exc: Exception, traceback: Any) -> None:
        # One by one: Celery calls some of them in this process, where each has to find its own tenant.
        for errback in request.errbacks:
            schema = errback["options"].get(OPTION) or connection.schema_name
            try:
                check_available(schema)
            except TenantUnavailable as reason:
                logger.error("Errback %s of task %s: %s", errback["task"], request.id, reason)
                continue
            single = Context({**vars(request), "errbacks": [errback]})
            copy_clean_context().run(self._call_errback, schema, single, exc, traceback)

    def _call_errback(self, schema: str, request: Any, *error: Any) -> None:
        if not request.is_eager:
            start_owner()
        with schema_context(schema):
            super()._call_task_errbacks(request, *error)  # type: ignore[misc]  # as above

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Start a chord at the home of its body."""
        # Chord parts are counted, and their results collected, at the body's home. Naming it in the body makes that
        # home hold in the messages of the header too.
        body["options"].setdefault(OPTION, connection.schema_name)
        with schema_context(body["options"][OPTION]):
            super().apply_chord(header_result_args, body, **kwargs)  # type: ignore[misc]  # as above


class TenantDatabaseBackend(FollowsTenant, DatabaseBackend):
    """`django-db`: each result in its tenant's own table."""

    def _store(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        told = traceback and storable(str(traceback), MAX_TRACEBACK)
        content_type, content_encoding, content = self.encode_content(result)
        meta = {**self._get_meta_from_request(request), "children": self.current_task_children(request)}
        row = {
            **self._get_extended_properties(request, told),
            "task_id": task_id,
            "status": state,
            "content_type": content_type,
            "content_encoding": content_encoding,
            "result": content,
            "traceback": told,
            "meta": self.encode_content(meta)[2],
        }
        retry_on_broken_connection(lambda: results.store_unless_gone(connection.schema_name, row))
        return content

    def cleanup(self) -> None:
        """Delete expired results of every tenant, in batches."""
        expires = self.expires if isinstance(self.expires, timedelta) else timedelta(seconds=self.expires or 0)
        if not expires:
            return
        with schema_context("public"):
            for schema in ["public", *_schemas()]:
                results.delete_expired(schema, before=timezone.now() - expires, batch=CLEANUP_BATCH)


class TenantCacheBackend(FollowsTenant, CacheBackend):
    """`django-cache`: the schema is part of each key. A durable job's terminal row is in the database all the same."""

    # django-celery-results keeps Python objects, which it leaves to the cache to pickle.
    encode = KeyValueStoreBackend.encode
    decode = KeyValueStoreBackend.decode

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.serializer = self.app.conf.result_serializer

    def get_key_for_task(self, task_id: Any, key: Any = "") -> bytes:
        """The key of a result, in the schema that is active."""
        return self._at_home(super().get_key_for_task(task_id, key))

    def get_key_for_group(self, group_id: Any, key: Any = "") -> bytes:
        """The key of a group's results, in the schema that is active."""
        return self._at_home(super().get_key_for_group(group_id, key))

    def get_key_for_chord(self, group_id: Any, key: Any = "") -> bytes:
        """The key of a chord's counter, in the schema that is active."""
        return self._at_home(super().get_key_for_chord(group_id, key))

    def _at_home(self, key: bytes) -> bytes:
        return f"{connection.schema_name}:".encode() + key


def _is_job(task_id: Any) -> bool:
    """Whether it is the id of a durable job that has not ended, or is dead. The result of another is there already."""
    return retry_on_broken_connection(lambda: results.is_of_job(str(task_id)))


def _received(task_id: str) -> Context | None:
    request = worker_state.requests.get(task_id)
    return None if request is None else request._context


def _schemas() -> Iterable[str]:
    serving = (Tenant.Status.ACTIVE, Tenant.Status.SUSPENDED)
    return Tenant.objects.filter(status__in=serving).values_list("schema_name", flat=True).iterator()
