"""DRF's throttles, counting in fixed windows, and out of the way while the cache is.

They tell what they counted by `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 has them.
"""

import logging
import math
import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple

from django.core.cache import caches
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, ScopedRateThrottle, SimpleRateThrottle, UserRateThrottle

logger = logging.getLogger(__name__)

# How often it is looked whether a cache that is away is back
LOOK_SECONDS = 5.0


class Circuit:
    """Whether this process asks the cache. While that is away, a thread looks for it: no request waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.closed = True

    def open(self, error: Exception) -> None:
        with self._lock:
            if not self.closed:
                return
            self.closed = False
        logger.warning("The cache is away, so nobody is throttled: %r", error)
        threading.Thread(target=self._await_cache, name="cache look-out", daemon=True).start()

    def _await_cache(self) -> None:
        while not self.closed:
            time.sleep(LOOK_SECONDS)
            with suppress(RedisError):
                caches["shared"].get("back")
                self.closed = True
        logger.warning("The cache is back, and throttles count again")


circuit = Circuit()


class Counted(NamedTuple):
    """A request that one throttle counted. Times are in seconds."""

    policy: str
    quota: int
    window: int
    remaining: int
    reset: int


def rate_limits(counted: list[Counted]) -> dict[str, str]:
    """The headers that tell what the throttles counted of a request; none if none did."""
    if not counted:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{one.policy}";q={one.quota};w={one.window}' for one in counted),
        "RateLimit": ", ".join(f'"{one.policy}";r={one.remaining};t={one.reset}' for one in counted),
    }


class Throttle(SimpleRateThrottle):
    """Counts requests in fixed windows. While the cache is away, nobody is throttled: it mustn't fail requests."""

    scope: str | None
    num_requests: int | None
    duration: int

    @property
    def cache(self) -> Any:  # type: ignore[override]  # DRF has an attribute, which is made at import
        """Shared by all tenants: a client counts once, whichever host it asks."""
        return caches["shared"]

    def allow_request(self, request: Request, view: Any) -> bool:
        key = self.get_cache_key(request, view)
        if key is None or self.num_requests is None or not circuit.closed:
            return True
        window, self.seconds_in = divmod(self.timer(), self.duration)
        try:
            count = self._count(f"{key}_{window:.0f}")
        except RedisError as error:
            circuit.open(error)
            return True
        self._tell(request, remaining=max(self.num_requests - count, 0), quota=self.num_requests)
        return count <= self.num_requests

    def wait(self) -> float:
        return self.duration - self.seconds_in

    def _tell(self, request: Request, *, remaining: int, quota: int) -> None:
        # Of the request of Django, which DRF's hands on: middleware sees that one.
        told: list[Counted] = getattr(request, "counted", [])
        told.append(Counted(str(self.scope), quota, self.duration, remaining, math.ceil(self.wait())))

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
