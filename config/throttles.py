"""DRF's throttles, counting in fixed windows, and out of the way while the cache is."""

import logging
import threading
import time
from typing import Any

from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, ScopedRateThrottle, SimpleRateThrottle, UserRateThrottle

logger = logging.getLogger(__name__)

# After a failure the cache is left alone for so long, lest each request waits for its time-outs.
PAUSE_SECONDS = 5.0


class Circuit:
    """Whether this process asks the cache. While it is away, one request tries it now and then, for all others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_try: float | None = None  # None: the cache is there

    def lets_try(self) -> bool:
        with self._lock:
            if self._next_try is None:
                return True
            if time.monotonic() < self._next_try:
                return False
            self._next_try = time.monotonic() + PAUSE_SECONDS
            return True

    def open(self, error: Exception) -> None:
        with self._lock:
            was_there, self._next_try = self._next_try is None, time.monotonic() + PAUSE_SECONDS
        if was_there:
            logger.warning("The cache is away, so nobody is throttled: %r", error)

    def close(self) -> None:
        with self._lock:
            was_away, self._next_try = self._next_try is not None, None
        if was_away:
            logger.warning("The cache is back, and throttles count again")


circuit = Circuit()


class Throttle(SimpleRateThrottle):
    """Counts requests in fixed windows. While the cache is away, nobody is throttled: it mustn't fail requests."""

    num_requests: int | None
    duration: int

    def allow_request(self, request: Request, view: Any) -> bool:
        key = self.get_cache_key(request, view)
        if key is None or self.num_requests is None or not circuit.lets_try():
            return True
        window, self.seconds_in = divmod(self.timer(), self.duration)
        try:
            count = self._count(f"{key}_{window:.0f}")
        except RedisError as error:
            circuit.open(error)
            return True
        circuit.close()
        return count <= self.num_requests

    def wait(self) -> float:
        return self.duration - self.seconds_in

    def _count(self, key: str) -> int:
        try:
            return int(self.cache.incr(key))
        except ValueError:  # the first request of the window
            return 1 if self.cache.add(key, 1, timeout=self.duration) else int(self.cache.incr(key))


class AnonThrottle(Throttle, AnonRateThrottle):
    pass


class UserThrottle(Throttle, UserRateThrottle):
    pass


class ScopedThrottle(ScopedRateThrottle, Throttle):
    """By the view's `throttle_scope`, if it has one."""
