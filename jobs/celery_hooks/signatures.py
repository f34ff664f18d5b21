"""Signatures that keep the tenant in which they were built, and what Celery keeps to itself about calls."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from celery import Task, current_app
from celery.canvas import Signature, maybe_signature
from django.apps import apps

from jobs.message import OPTION
from tenants.binding import bound_schema

#: The builtin tasks that run another task's body: the tenant is that task's.
MAPS = {"celery.map", "celery.starmap"}


def keep_tenants() -> None:
    """Let a signature that is built inside a tenant keep that tenant; one built in `public` takes its sender's.

    Celery has no hook where `signature("a.name")` and `Signature(task)` are built, so their class gets one.
    """
    Signature.__init__ = _keeping_tenant(Signature.__init__)


def mapped_schema(name: str, kwargs: Mapping[str, Any] | None) -> str | None:
    """The schema of the task that a `map` or `starmap` runs; None for any other task."""
    if name not in MAPS or not kwargs:
        return None
    schema: str | None = kwargs["task"]["options"].get(OPTION)
    return schema


def schemas_of(signature: Signature[Any]) -> set[str]:
    """The schemas that a signature keeps, and those that its parts keep."""
    own = signature.options.get(OPTION) or mapped_schema(signature.task, signature.kwargs)
    kept: set[str] = {own} if own else set()
    for part in (*getattr(signature, "tasks", ()), getattr(signature, "body", None)):
        if part is not None:
            kept |= schemas_of(maybe_signature(part, app=current_app))
    return kept


def refuse_mixed_chord(options: Mapping[str, Any], schema: str) -> None:
    """Raise ValueError if a call in `schema`, or one that follows it in a chain, is a part of another tenant's chord.

    `options` are those of the call.
    """
    # The header's parts are counted, and their results collected, where the body belongs.
    for call in (options, *(follower["options"] for follower in reversed(options.get("chain") or ()))):
        schema = call.get(OPTION, schema)
        body = call.get("chord")
        home = body["options"].get(OPTION) if body else None
        if home not in (None, schema):
            raise ValueError(
                f"The chord's body belongs to schema {home!r}, a task of its header to {schema!r}: "
                "build both in one tenant"
            )


def check_arguments(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError, as `delay` does, for arguments that the task's body does not take."""
    if not task.typing:
        return
    check = getattr(task, "__header__", None)
    if check is not None:  # a task that is a class has none
        check(*args, **kwargs)


def linked_call(signature: Signature[Any], head: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """What a linked task is called with: `head` first, unless its signature is immutable."""
    args, kwargs, _ = signature._merge(head)
    return args, kwargs


def _keeping_tenant(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def keeping(self: Signature[Any], task: Any = None, *args: Any, **kwargs: Any) -> None:
        init(self, task, *args, **kwargs)
        # Not one that is built from a dict, as clones and received ones are. Not chains, groups and the like either:
        # options of theirs would override those of their members.
        if type(self) is not Signature or isinstance(task, dict) or not apps.models_ready:
            return
        schema = bound_schema()
        if schema not in (None, "public"):
            self["options"].setdefault(OPTION, schema)

    return keeping
