"""Counts that end by themselves: in Redis, which all processes share, or in this process's memory while Redis is away.

Both are bounded. In Redis every count has an end; in memory there is room for so many.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar, cast

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# How often it is looked whether a Redis that is away is back
LOOK_SECONDS = 5.0
#: Counts that a process keeps while Redis is away; some 200 bytes each
ROOM = 10_000
T = TypeVar("T")


class Hit(NamedTuple):
    """What to add to a count. One that is not there begins at 0, and ends after so many seconds."""

    name: str
    seconds: int
    by: int = 1


class Count(NamedTuple):
    """What came of a hit."""

    value: int
    #: Until it ends; 1 at the least
    seconds: int


class Store(Protocol):
    """Where counts are kept."""

    def add(self, hits: Sequence[Hit]) -> list[Count]:
        """Count all of them at once."""

    def start(self, name: str, seconds: int) -> None:
        """Let a count begin at 1, and end after so many seconds, whatever it was."""

    def has(self, name: str) -> bool:
        """Whether there is such a count, and it has not ended."""

    def delete(self, names: Sequence[str]) -> None:
        """End these counts."""


class SharedCounts:
    """Counts in Redis. One round trip each; all raise RedisError."""

    # A script is atomic. So no count can be left without an end.
    SCRIPT = """
        local answers = {}
        for i, name in ipairs(KEYS) do
            redis.call('SET', name, 0, 'EX', ARGV[2 * i - 1], 'NX')
            answers[2 * i - 1] = redis.call('INCRBY', name, ARGV[2 * i])
            answers[2 * i] = redis.call('TTL', name)
        end
        return answers
    """

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, **settings.REDIS_OPTIONS)
        self._add = self._redis.register_script(self.SCRIPT)

    def add(self, hits: Sequence[Hit]) -> list[Count]:
        arguments = [argument for hit in hits for argument in (hit.seconds, hit.by)]
        answers = cast(list[int], self._add(keys=[_key(hit.name) for hit in hits], args=arguments))
        return [
            Count(value, max(seconds, 1)) for value, seconds in zip(answers[::2], answers[1::2], strict=True)
        ]

    def start(self, name: str, seconds: int) -> None:
        self._redis.set(_key(name), 1, ex=seconds)

    def has(self, name: str) -> bool:
        return bool(self._redis.exists(_key(name)))

    def delete(self, names: Sequence[str]) -> None:
        self._redis.delete(*map(_key, names))


def _key(name: str) -> str:
    return f"{settings.REDIS_KEY_PREFIX}limits:{name}"


class OwnCounts:
    """Counts of this process. When there is no more room, those are forgotten that began first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, room: int = ROOM) -> None:
        self._clock = clock
        self._room = room
        self._lock = threading.Lock()
        #: Value and end of each, in the order in which they began
        self._counts: dict[str, tuple[int, float]] = {}

    def add(self, hits: Sequence[Hit]) -> list[Count]:
        with self._lock:
            return [self._hit(hit) for hit in hits]

    def start(self, name: str, seconds: int) -> None:
        with self._lock:
            self._counts.pop(name, None)
            self._hit(Hit(name, seconds))

    def has(self, name: str) -> bool:
        with self._lock:
            return self._value_and_end(name)[1] > self._clock()

    def delete(self, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                self._counts.pop(name, None)

    def __len__(self) -> int:
        return len(self._counts)

    def _hit(self, hit: Hit) -> Count:
        now = self._clock()
        value, end = self._value_and_end(hit.name)
        if end <= now:
            value, end = 0, now + hit.seconds
            self._make_room(hit.name)
        self._counts[hit.name] = value + hit.by, end
        return Count(value + hit.by, max(math.ceil(end - now), 1))

    def _value_and_end(self, name: str) -> tuple[int, float]:
        return self._counts.get(name, (0, -math.inf))

    def _make_room(self, name: str) -> None:
        self._counts.pop(name, None)
        while len(self._counts) >= self._room:
            del self._counts[next(iter(self._counts))]


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
