"""What a job's row and its result tell of an exception: some of it to the tenant, all of it to staff."""

import traceback
from typing import Any

import psycopg
from celery.exceptions import TaskPredicate
from django.db import DataError, Error

#: Characters. What is left out is in the middle.
MAX_ERROR = 2_000
MAX_TRACEBACK = 50_000
MAX_PRESENTABLE = 1_000_000
#: Packages whose texts name servers, addresses, statements and values of rows.
DRIVERS = {"psycopg", "redis", "kombu", "amqp", "httpx", "httpcore", "smtplib", "socket", "ssl"}


class Unpresentable(Exception):
    """In place of an exception that can't be printed, or not in reasonable space."""


def describe(error: BaseException) -> str:
    """An exception in words that its tenant may read: class and message; of a driver's, class and SQLSTATE alone.

    It never raises, whatever the exception's own methods do.
    """
    name = type(error).__name__
    driver = _drivers_own(error)
    if driver is None:
        return storable(f"{name}: {_message(error)}", MAX_ERROR)
    sqlstate = getattr(driver, "sqlstate", None)
    if sqlstate:
        return f"{name}: SQLSTATE {sqlstate}"
    # What never came to a server has a text of psycopg's, or of ours, that says what to do.
    is_ours = isinstance(driver, psycopg.ProgrammingError)
    return storable(f"{name}: {_message(error)}", MAX_ERROR) if is_ours else name


def format_traceback(error: BaseException) -> str:
    """All that Python tells of an exception, for staff. It never raises."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # what the exception's own methods and attributes make Python's code raise
        text = f"{type(error).__name__}, which can't be printed"
    return storable(text, MAX_TRACEBACK)


def is_refusal(error: Exception) -> bool:
    """Whether something can't be written because of what it is, and not because of how the database is."""
    return isinstance(error, DataError) or not isinstance(error, Error)


def presentable(error: BaseException) -> BaseException:
    """The same exception, for Celery to print and to send to the parent; one in its place if it is no fit for that."""
    if isinstance(error, TaskPredicate) or not isinstance(error, Exception):
        return error
    try:
        if len("".join(traceback.format_exception(error))) + len(f"{error!r}{error.args}") <= MAX_PRESENTABLE:
            return error
    except Exception:  # what the exception's own methods raise
        pass
    return Unpresentable(describe(error))


def storable(text: str, limit: int) -> str:
    """A text that PostgreSQL can keep, so that it does not keep a job from ending."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} … {text[-(limit // 2) :]}"
    return text.replace("\0", "\ufffd").encode(errors="backslashreplace").decode()


def is_drivers(module: Any) -> bool:
    """Whether an exception's class comes from a package whose texts are for staff. Django's have the driver's text."""
    return module == Error.__module__ or str(module).partition(".")[0] in DRIVERS


def _drivers_own(error: BaseException) -> BaseException | None:
    # Django's errors have the text of their cause. One without a cause has a text of Django's own.
    own = error.__cause__ if isinstance(error, Error) else error
    foreign = any(is_drivers(kind.__module__) for kind in type(own).__mro__)
    return own if foreign or _is_systems(own) else None


def _is_systems(error: BaseException | None) -> bool:
    """Whether the operating system refused: its texts name files and hosts. An author's TimeoutError has no number."""
    return isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno is not None


def _message(error: BaseException) -> str:
    try:
        # It outlives what an exception's own `__str__` raises.
        return str(traceback.TracebackException.from_exception(error))
    except Exception:  # as above
        return "<it can't be printed>"
