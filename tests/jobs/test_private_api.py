"""What jobs/celery_hooks and jobs/worker take of Celery, kombu and billiard that those keep to themselves.

A new version may take a hook away without a word: then these fail, and name the library.
"""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import amqp
import pytest
from billiard import einfo, pool, process
from celery import Celery, Task, canvas
from celery.app import trace
from celery.app.amqp import AMQP
from celery.apps.worker import Worker
from celery.backends.base import Backend
from celery.beat import Scheduler
from celery.concurrency import prefork
from celery.contrib.django.task import DjangoTask
from celery.fixups.django import DjangoWorkerFixup
from celery.worker import components, state, strategy
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from django_celery_beat.admin import PeriodicTaskAdmin, TaskSelectWidget
from django_celery_beat.models import PeriodicTasks
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from django_celery_results.backends.cache import CacheBackend
from django_celery_results.backends.database import DatabaseBackend
from kombu import transport
from kombu.message import Message
from kombu.transport import pyamqp, redis, virtual
from kombu.utils import compat

from tests.jobs.probes import probe

# The function, and the parameters that we pass to it or take from it.
FUNCTIONS: dict[str, list[tuple[Any, str, list[str]]]] = {
    "celery": [
        (Celery, "send_task", ["name", "args", "kwargs", "countdown", "eta", "task_id", "options"]),
        (Celery, "_get_backend", []),
        (canvas.Signature, "__init__", ["task"]),
        (canvas.Signature, "_merge", ["args"]),
        (trace, "build_tracer", ["name", "task", "app"]),
        (AMQP, "as_task_v2", ["task_id", "name", "time_limit", "soft_time_limit", "ignore_result", "argsrepr"]),
        (Backend, "current_task_children", ["request"]),
        (Request, "acknowledge", []),
        (DjangoTask, "delay_on_commit", []),
        (Backend, "mark_as_done", ["task_id", "result", "request"]),
        (Backend, "mark_as_failure", ["task_id", "exc", "traceback", "request"]),
        (Backend, "mark_as_revoked", ["task_id", "reason", "request"]),
        (Backend, "apply_chord", ["header_result_args", "body"]),
        (Backend, "prepare_exception", ["exc", "serializer"]),
        (Backend, "_call_task_errbacks", ["request", "exc", "traceback"]),
        (Worker, "on_consumer_ready", ["consumer"]),
        (Worker, "prepare_args", ["kwargs"]),
        (Worker, "install_platform_tweaks", ["worker"]),
        (Worker, "wait_for_soft_shutdown", []),
        (Celery, "subclass_with_self", ["Class"]),
        (Request, "on_accepted", ["pid", "time_accepted"]),
        (Request, "on_timeout", ["soft", "timeout"]),
        (Request, "on_failure", ["exc_info", "send_failed_event", "return_ok"]),
        (Request, "cancel", ["pool", "signal", "emit_retry"]),
        (Request, "info", ["safe"]),
        (Request, "_retry_worker_lost", ["exc", "exc_info"]),
        (Request, "_announce_revoked", ["reason", "terminated", "signum", "expired"]),
        (Request, "_success_was_stored", []),
        (Consumer, "update_strategies", []),
        (Consumer, "create_task_handler", []),
        (Consumer, "on_invalid_task", ["body", "message", "exc"]),
        (Consumer, "on_decode_error", ["message", "exc"]),
        (Consumer, "on_connection_error_after_connected", ["exc"]),
        (Consumer, "on_connection_error_before_connected", ["exc"]),
        (state, "maybe_shutdown", []),
        (Consumer, "on_unknown_task", ["body", "message", "exc"]),
        (prefork, "TaskPool", []),
    ],
    "django-celery-results": [
        (DatabaseBackend, "_store_result", ["task_id", "result", "status", "traceback", "request"]),
        (DatabaseBackend, "_get_meta_from_request", ["request"]),
        (DatabaseBackend, "_get_extended_properties", ["request", "traceback"]),
        (DatabaseBackend, "encode_content", ["data"]),
        (CacheBackend, "get_key_for_task", ["task_id", "key"]),
        (CacheBackend, "get_key_for_group", ["group_id", "key"]),
        (CacheBackend, "get_key_for_chord", ["group_id", "key"]),
    ],
    "django-celery-beat": [
        (ModelEntry, "is_due", []),
        (ModelEntry, "__next__", []),
        (ModelEntry, "from_entry", ["name", "app"]),
        (ModelEntry, "_unpack_fields", ["schedule"]),
        (DatabaseScheduler, "apply_entry", ["entry", "producer"]),
        (DatabaseScheduler, "reserve", ["entry"]),
        (DatabaseScheduler, "sync", []),
        (DatabaseScheduler, "schedule_changed", []),
        (DatabaseScheduler, "enabled_models_qs", []),
        (DatabaseScheduler, "all_as_schedule", []),
        (DatabaseScheduler, "_is_due_failed", ["entry"]),
        (PeriodicTasks, "last_change", []),
        (TaskSelectWidget, "tasks_as_choices", []),
        (PeriodicTaskAdmin, "run_tasks", ["request", "queryset"]),
    ],
    "kombu": [
        (Message, "reject_log_error", ["logger", "errors"]),
        (compat, "detect_environment", []),
        (redis.QoS, "pipe_or_acquire", ["pipe", "client"]),
        (redis.QoS, "append", ["message", "delivery_tag"]),
        (redis.QoS, "ack", ["delivery_tag"]),
        (redis.QoS, "reject", ["delivery_tag", "requeue"]),
        (redis.QoS, "restore_by_tag", ["tag", "client", "leftmost"]),
        (redis.QoS, "restore_visible", ["start", "num", "interval"]),
        (redis.QoS, "_remove_from_indices", ["delivery_tag"]),
        (virtual.QoS, "append", ["message", "delivery_tag"]),
        (virtual.QoS, "ack", ["delivery_tag"]),
        (redis.Channel, "conn_or_acquire", ["client"]),
        (redis.Channel, "_q_for_pri", ["queue", "pri"]),
        (redis.Channel, "_create_client", []),
        (redis.Channel, "_brpop_read", ["options"]),
        (redis.Transport, "_deliver", ["message", "queue"]),
        (redis.Channel, "_has_queue", ["queue"]),
        (pyamqp.Channel, "queue_declare", ["queue", "passive", "durable"]),
        (redis.Channel, "_do_restore_message", ["payload", "exchange", "routing_key", "pipe", "leftmost"]),
    ],
    "billiard": [
        (pool.Worker, "contribute_to_object", ["obj"]),
        (process, "active_children", []),
        (process, "current_process", []),
        (pool, "soft_timeout_sighandler", ["signum", "frame"]),
    ],
}
# The attributes that a function sets or reads, by their names in it.
ATTRIBUTES: dict[str, list[tuple[Callable[..., Any], str]]] = {
    "celery": [
        (Celery.__init__, "_tasks"),
        (Celery._get_backend, "backend_cls"),
        (Task.delay, "apply_async"),
        (strategy.default, "Request"),
        # The hooks that stand on the task object in the place of its class's
        (trace.build_tracer, "before_start"),
        (trace.build_tracer, "on_success"),
        (trace.build_tracer, "after_return"),
        (trace.TraceInfo.handle_failure, "on_failure"),
        (trace.TraceInfo.handle_retry, "on_retry"),
        (components.Consumer.create, "consumer_cls"),
        (Request.__init__, "_request_dict"),
        (Request.__init__, "_type"),
        (Request.revoked, "_already_revoked"),
        (Request._announce_cancelled, "_already_cancelled"),
        (Request._announce_revoked, "_context"),
        (Request.on_accepted, "worker_pid"),
        (Request.execute_using_pool, "time_limits"),
        (Consumer.update_strategies, "strategies"),
        (Consumer.create_task_handler, "on_unknown_task"),
        (DjangoWorkerFixup.__init__, "db_reuse_max"),
        (einfo.ExceptionWithTraceback.__init__, "exc"),
    ],
    "django-celery-beat": [
        (ModelEntry.is_due, "_disable"),
        (Scheduler.tick, "_heap"),
        (Scheduler.tick, "reserve"),
        (Scheduler.tick, "apply_entry"),
        (Scheduler.tick, "producer"),
        (DatabaseScheduler.schedule.fget, "_initial_read"),
        (DatabaseScheduler.schedule.fget, "_schedule"),
        (DatabaseScheduler.schedule.fget, "schedule_changed"),
        (DatabaseScheduler.schedule.fget, "all_as_schedule"),
        (DatabaseScheduler.schedule_changed, "_last_timestamp"),
        (DatabaseScheduler.enabled_models, "enabled_models_qs"),
    ],
    "billiard": [
        # A child's process has its pipes
        (pool.Worker.contribute_to_object, "inq"),
        (pool.Worker.contribute_to_object, "outq"),
        (pool.Worker.contribute_to_object, "outqR_fd"),
        (pool.Pool.WorkerProcess, "contribute_to_object"),
        # A pool has its children
        (pool.Pool._join_exited_workers, "_pool"),
    ],
    "kombu": [
        (redis.Channel._brpop_read, "_deliver"),
        (redis.QoS.restore_visible, "restore_by_tag"),
        (redis.QoS.restore_by_tag, "unacked_key"),
        (redis.Channel._queue_bind, "keyprefix_queue"),
        (redis.Channel._queue_bind, "keyprefix_binding_permanent"),
        (redis.Channel._size, "priority_steps"),
        (redis.QoS.restore_visible, "unacked_mutex_key"),
        (virtual.Channel.message_to_python, "Message"),
        (virtual.QoS.__init__, "_delivered"),
        (virtual.Message.__init__, "_raw"),
        (virtual.Channel.queue_declare, "_has_queue"),
        (pyamqp.Transport.establish_connection, "Connection"),
        (amqp.Connection.channel, "Channel"),
        (transport.resolve_transport, "TRANSPORT_ALIASES"),
        (virtual.Channel.__dict__["qos"].fget, "QoS"),
    ],
}


@pytest.mark.parametrize(
    ("library", "hook"), [(library, hook) for library, hooks in FUNCTIONS.items() for hook in hooks]
)
def test_a_hook_is_there_and_takes_what_we_pass(library: str, hook: tuple[Any, str, list[str]]) -> None:
    owner, name, expected = hook
    where = f"{library} {version(library)}: {owner.__name__}.{name}"
    assert hasattr(owner, name), f"{where} is gone"
    parameters = inspect.signature(getattr(owner, name)).parameters
    assert [name for name in expected if name not in parameters] == [], f"{where} takes {list(parameters)}"


@pytest.mark.parametrize(
    ("library", "attribute"), [(library, each) for library, attributes in ATTRIBUTES.items() for each in attributes]
)
def test_an_attribute_is_still_used(library: str, attribute: tuple[Callable[..., Any], str]) -> None:
    function, name = attribute
    where = f"{library} {version(library)}: {function.__qualname__}"
    assert name in (*function.__code__.co_names, *function.__code__.co_varnames), f"{where} knows no {name}"


def test_a_task_knows_how_its_body_is_called() -> None:
    assert hasattr(probe, "__header__"), f"celery {version('celery')}: a task has no __header__"


def test_the_worker_says_that_it_is_about_to_stop() -> None:
    hooks = [name for name in ("should_stop", "should_terminate", "requests") if not hasattr(state, name)]
    assert hooks == [], f"celery {version('celery')}: celery.worker.state"
