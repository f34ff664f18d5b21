"""Counts that end by themselves: Redis keeps them, and this process while Redis is away."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

from django.conf import settings
from redis.exceptions import RedisError

from limits.stores import Count, Hit, OwnCounts, SharedCounts, Store

__all__ = ["Count", "Hit", "add", "delete", "has", "start"]

logger = logging.getLogger(__name__)

# How often it is looked whether a Redis that is away is back
LOOK_SECONDS = 5.0
T = TypeVar("T")


class Circuit:
    """Whether this process asks Redis. While that is away, a thread looks for it: no request waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.closed = True

    def open(self, error: Exception) -> None:
        """Begin to look for Redis, unless somebody has begun."""
        with self._lock:
            if not self.closed:
                return
            self.closed = False
        logger.warning("Redis is away, so each process counts for itself: %r", error)
        threading.Thread(target=self._await_redis, name="redis look-out", daemon=True).start()

    def _await_redis(self) -> None:
        while not self.closed:
            time.sleep(LOOK_SECONDS)
            with suppress(RedisError):
                # A full Redis, or one that is read-only, answers a PING.
                _shared(settings.CACHE_URL).add([Hit("look-out", 1)])
                self.closed = True
        logger.warning("Redis is back, and all processes count together again")


circuit = Circuit()
own = OwnCounts()


@lru_cache(maxsize=1)
def _shared(url: str) -> SharedCounts:
    return SharedCounts(url)


def add(*hits: Hit) -> list[Count]:
    """Count all of them at once. Returns what each came to."""
    return _ask(lambda store: store.add(hits))


def start(name: str, seconds: int) -> None:
    """Let a count begin at 1, and end after so many seconds, whatever it was."""
    _ask(lambda store: store.start(name, seconds))


def has(name: str) -> bool:
    """Whether there is such a count, and it has not ended."""
    return _ask(lambda store: store.has(name))


def delete(*names: str) -> None:
    """End these counts."""
    _ask(lambda store: store.delete(names))


def _ask(question: Callable[[Store], T]) -> T:
    if circuit.closed:
        try:
            return question(_shared(settings.CACHE_URL))
        except RedisError as error:
            circuit.open(error)
    return question(own)
