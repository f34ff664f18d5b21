"""DRF's throttles, counting in one round trip, and out of the way while the cache is."""

import logging
import time
from typing import Any

from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, ScopedRateThrottle, SimpleRateThrottle, UserRateThrottle

logger = logging.getLogger(__name__)

# After a failure the cache is left alone for so long, lest each request waits for its time-outs.
PAUSE_SECONDS = 5.0


class Throttle(SimpleRateThrottle):
    """Counts requests in fixed windows. While the cache is away, nobody is throttled: it mustn't fail requests."""

    num_requests: int | None
    duration: int
    paused_until = 0.0

    def allow_request(self, request: Request, view: Any) -> bool:
        key = self.get_cache_key(request, view)
        if key is None or self.num_requests is None or time.monotonic() < Throttle.paused_until:
            return True
        window, self.seconds_in = divmod(self.timer(), self.duration)
        try:
            return self._count(f"{key}_{window:.0f}") <= self.num_requests
        except RedisError as error:
            logger.warning("The cache is away, so nobody is throttled for %s s: %r", PAUSE_SECONDS, error)
            Throttle.paused_until = time.monotonic() + PAUSE_SECONDS
            return True

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
