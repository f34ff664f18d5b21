"""Tasks whose bodies do what nobody should, for real workers. Their effect is a group in their tenant's schema."""

import asyncio
import os
import resource
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from celery import shared_task
from celery.exceptions import Reject
from django.contrib.auth.models import Group
from django.db import transaction

MEGABYTE = 2**20


class Own(BaseException):
    """It can't be built again from its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


class Unreadable(Exception):
    """It can be written, and raises where it is read."""

    def __reduce__(self) -> Any:
        return _fail_to_read, ()


def _fail_to_read() -> NoReturn:
    raise LookupError("nobody reads this")


class Deadly(Exception):
    """Whoever prints, writes or reads it ends."""


class DeadlyToPrint(Deadly):
    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__


class DeadlyToWrite(Deadly):
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class DeadlyToRead(Deadly):
    def __reduce__(self) -> Any:
        return _raise, (KeyboardInterrupt(),)


DEADLY = (DeadlyToPrint, DeadlyToWrite, DeadlyToRead)


def _raise(error: BaseException) -> NoReturn:
    raise error


def _use_up_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 64 * MEGABYTE, hard))
    hoard = []
    while True:
        hoard.append(bytearray(MEGABYTE))


def _use_up_descriptors() -> None:
    # For good: nothing closes these.
    with suppress(OSError):
        while True:
            os.open("/dev/null", os.O_RDONLY)
    os.open("/dev/null", os.O_RDONLY)


def _use_up_descriptors_silently() -> None:
    with suppress(OSError):
        _use_up_descriptors()


def _close_all() -> None:
    os.closerange(3, 4096)


def _replace_all() -> None:
    """Another file is where the parent's pipe was."""
    _close_all()
    _use_up_descriptors_silently()


def write_garbage() -> None:
    """Into each pipe that can be written to, that to the worker's parent among them."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if descriptor > 2 and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"\0\0\0\x04junk")


# What ends as a failure, with the word that its reason has
FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "asks for too much memory": (lambda: bytearray(2**62), "MemoryError"),
    "uses up its memory": (_use_up_memory, "MemoryError"),
    "KeyboardInterrupt": (lambda: _raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (lambda: _raise(GeneratorExit()), "GeneratorExit"),
    "CancelledError": (lambda: _raise(asyncio.CancelledError()), "CancelledError"),
    "an exception of its own": (lambda: _raise(Own("one", "two")), "Own"),
    "a group of them": (lambda: _raise(BaseExceptionGroup("both", [Own("one", "two")])), "BaseExceptionGroup"),
    "an exception that can't be read": (lambda: _raise(Unreadable()), "Unreadable"),
    "a reason that is deadly": (lambda: _raise(Reject(DeadlyToPrint(), requeue=False)), "Reject"),
    "a reason that can't be read": (lambda: _raise(Reject(Unreadable(), requeue=False)), "Reject"),
    **{kind.__name__: (partial(_raise, kind()), kind.__name__) for kind in DEADLY},
    # The text of the system's is for staff.
    "uses up its descriptors": (_use_up_descriptors, "OSError"),
}
# What cuts a child off from its parent, so that the child can only end
CUTS: dict[str, Callable[[], Any]] = {"closes its descriptors": _close_all, "replaces its descriptors": _replace_all}
SUCCESSES: dict[str, Callable[[], Any]] = {"uses up its descriptors silently": _use_up_descriptors_silently}

DEEDS: dict[str, Callable[[], Any]] = {
    **{name: deed for name, (deed, _) in FAILURES.items()},
    **CUTS,
    **SUCCESSES,
    "exits": lambda: _raise(SystemExit(3)),
    "writes garbage": write_garbage,
}


@shared_task
def does_at_its_end(name: str) -> str:
    transaction.on_commit(DEEDS[name])
    return name


class HostileResult(dict[str, str]):
    def items(self) -> Any:
        raise KeyboardInterrupt


@shared_task
def returns_what_raises() -> dict[str, str]:
    return HostileResult(a="b")


@shared_task
def does(name: str) -> str:
    Group.objects.create(name=name)
    DEEDS[name]()
    return name
