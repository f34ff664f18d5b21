"""What a job's row and its result tell of an exception: some of it to the tenant, all of it to staff."""

import pickle
import re
import traceback
from collections.abc import Iterator
from typing import Any

import psycopg
from celery.exceptions import ChordError, TaskPredicate
from django.db import DataError, Error

#: Characters. What is left out is in the middle.
MAX_ERROR = 2_000
MAX_TRACEBACK = 50_000
MAX_PRESENTABLE = 1_000_000
#: The key of what `describe` says, beside Celery's own in a stored exception
TOLD = "told"
#: Packages whose texts name servers, addresses, statements and values of rows.
DRIVERS = {
    "psycopg", "redis", "kombu", "amqp", "httpx", "httpcore", "requests", "urllib3", "urllib",
    "smtplib", "socket", "ssl",
}  # fmt: skip
#: What stands before the host in an address, and what libpq calls a password
CREDENTIALS = re.compile(r"(?<=://)[^\s/]*@|(?<=\bpassword=)\S+")
#: Characters of a driver's line that says something
MIN_LINE = 4


class Unpresentable(Exception):
    """In place of an exception that can't be printed, or not in reasonable space."""


def describe(error: BaseException) -> str:
    """An exception in words that its tenant may read: class and message; of a driver's, class and SQLSTATE alone.

    A message is shown without what it repeats of a driver's, and without passwords in addresses.
    It never raises, whatever the exception's own methods do.
    """
    name = type(error).__name__
    driver = _drivers_own(error)
    if driver is None:
        return storable(f"{name}: {_redacted(error)}", MAX_ERROR)
    if _names_nothing(driver):
        return storable(f"{name}: {_message(error)}", MAX_ERROR)
    sqlstate = getattr(driver, "sqlstate", None)
    return f"{name}: SQLSTATE {sqlstate}" if sqlstate else name


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
    if ends_its_reader(error):
        return Unpresentable(describe(error))
    try:
        if len("".join(traceback.format_exception(error))) + len(f"{error!r}{error.args}") <= MAX_PRESENTABLE:
            return error
    except Exception:  # what the exception's own methods raise
        pass
    return Unpresentable(describe(error))


def ends_its_reader(error: Exception) -> bool:
    """Whether its own methods raise what is no Exception, to who prints it, or sends it to another process."""
    try:
        f"{error!r}{error}{error.args}"
        pickle.loads(pickle.dumps(error))
    except Exception:  # what Celery and `presentable` can deal with
        return False
    except BaseException:
        return True
    return False


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
    return own if foreign or _is_systems(own) or isinstance(own, ChordError) else None


def _names_nothing(error: BaseException) -> bool:
    """Whether its text names nothing: that of a statement that never came to a server, or of one that came too
    late, since an error was swallowed.
    """
    if isinstance(error, psycopg.errors.InFailedSqlTransaction):
        return True
    return isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None


def _is_systems(error: BaseException | None) -> bool:
    """Whether the operating system refused: its texts name files and hosts. An author's TimeoutError has no number."""
    return isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno is not None


def _message(error: BaseException) -> str:
    try:
        # It outlives what an exception's own `__str__` raises.
        return str(traceback.TracebackException.from_exception(error))
    except Exception:  # as above
        return "<it can't be printed>"


def _redacted(error: BaseException) -> str:
    """An author's message, without what is for staff alone."""
    text = _message(error)
    for said in _said_by_drivers(error):
        text = text.replace(said, "…")
    return CREDENTIALS.sub("…", text)


def _said_by_drivers(error: BaseException) -> Iterator[str]:
    """The lines of the drivers' errors from which this one was made; a detail of PostgreSQL's without its heading."""
    for origin in _origins(error):
        if _drivers_own(origin) is not None:
            lines = (line.partition(":  ")[2] or line.strip() for line in _message(origin).splitlines())
            yield from (line for line in lines if len(line) >= MIN_LINE)


def _origins(error: BaseException) -> Iterator[BaseException]:
    """What it was raised from, raised while, or holds, and so on; not itself."""
    seen, found = {id(error)}, [error]
    while found:
        one = found.pop()
        for origin in (one.__cause__, one.__context__, *_arguments(one)):
            if isinstance(origin, BaseException) and id(origin) not in seen:
                seen.add(id(origin))
                found.append(origin)
                yield origin


def _arguments(error: BaseException) -> tuple[Any, ...]:
    try:
        own = error.exceptions if isinstance(error, BaseExceptionGroup) else error.args
        return tuple(own)
    except Exception:  # what the exception's own attributes raise
        return ()
