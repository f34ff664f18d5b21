"""Where counts are kept: in Redis, which all processes share, or in this process's memory. Both are bounded."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

from django.conf import settings
from redis import Redis

#: Counts that a process keeps while Redis is away; some 200 bytes each
ROOM = 10_000


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
        """Count all of them at once. Returns what each came to."""

    def start(self, name: str, seconds: int) -> None:
        """Let a count begin at 1, and end after so many seconds, whatever it was."""

    def has(self, name: str) -> bool:
        """Whether there is such a count, and it has not ended."""

    def delete(self, names: Sequence[str]) -> None:
        """End these counts."""


class SharedCounts:
    """Counts in Redis. Each call is one round trip, and may raise RedisError."""

    # A script is atomic. What somebody has written over a count begins anew, and what has no end gets one.
    SCRIPT = """
        local answers = {}
        for i, name in ipairs(KEYS) do
            local seconds, by = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
            local value = redis.pcall('INCRBY', name, by)
            if type(value) ~= 'number' then
                redis.call('SET', name, by)
                value = by
            end
            local left = redis.call('TTL', name)
            if left < 0 then
                redis.call('EXPIRE', name, seconds)
                left = seconds
            end
            answers[2 * i - 1] = value
            answers[2 * i] = left
        end
        return answers
    """

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, **settings.REDIS_OPTIONS)
        self._add = self._redis.register_script(self.SCRIPT)

    def add(self, hits: Sequence[Hit]) -> list[Count]:
        """Count all of them at once. Returns what each came to."""
        arguments = [argument for hit in hits for argument in (hit.seconds, hit.by)]
        answers = cast(list[int], self._add(keys=[_key(hit.name) for hit in hits], args=arguments))
        return [Count(value, max(seconds, 1)) for value, seconds in zip(answers[::2], answers[1::2], strict=True)]

    def start(self, name: str, seconds: int) -> None:
        """Let a count begin at 1, and end after so many seconds, whatever it was."""
        self._redis.set(_key(name), 1, ex=seconds)

    def has(self, name: str) -> bool:
        """Whether there is such a count, and it has not ended."""
        return bool(self._redis.exists(_key(name)))

    def delete(self, names: Sequence[str]) -> None:
        """End these counts."""
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

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, hits: Sequence[Hit]) -> list[Count]:
        """Count all of them at once. Returns what each came to."""
        with self._lock:
            return [self._hit(hit) for hit in hits]

    def start(self, name: str, seconds: int) -> None:
        """Let a count begin at 1, and end after so many seconds, whatever it was."""
        with self._lock:
            self._counts.pop(name, None)
            self._hit(Hit(name, seconds))

    def has(self, name: str) -> bool:
        """Whether there is such a count, and it has not ended."""
        with self._lock:
            return self._find(name)[1] > self._clock()

    def seconds_left(self, name: str) -> int:
        """Until a count ends; 0 if there is none."""
        with self._lock:
            return max(_whole_seconds(self._find(name)[1] - self._clock()), 0)

    def delete(self, names: Sequence[str]) -> None:
        """End these counts."""
        with self._lock:
            for name in names:
                self._counts.pop(name, None)

    def _hit(self, hit: Hit) -> Count:
        now = self._clock()
        value, end = self._find(hit.name)
        if end <= now:
            value, end = 0, now + hit.seconds
            self._make_room(hit.name)
        self._counts[hit.name] = value + hit.by, end
        return Count(value + hit.by, max(_whole_seconds(end - now), 1))

    def _find(self, name: str) -> tuple[int, float]:
        return self._counts.get(name, (0, 0.0))

    def _make_room(self, name: str) -> None:
        self._counts.pop(name, None)
        while len(self._counts) >= self._room:
            del self._counts[next(iter(self._counts))]


def _whole_seconds(seconds: float) -> int:
    # Floats: an hour from 1000.1 on is a little more than an hour away.
    return math.ceil(round(seconds, 3))
