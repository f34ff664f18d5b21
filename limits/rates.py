"""How much may happen in how much time. Whatever is limited, this counts it.

A policy is a name in DEFAULT_THROTTLE_RATES, and what is counted has an owner: an address, a user, a tenant. A policy
whose rate is None, or that has none, limits nobody.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from rest_framework.throttling import SimpleRateThrottle

from limits import counts
from limits.counts import Hit

RATE = re.compile(r"([0-9]+)/([smhd])[a-z]*")
SECONDS = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}
NOBODY: Mapping[str, str] = {}


class Limit(NamedTuple):
    """So many in so many seconds."""

    policy: str
    quota: int
    window: int


class Counted(NamedTuple):
    """What one policy counted. Times are in seconds."""

    policy: str
    quota: int
    window: int
    remaining: int
    #: When the count begins anew
    reset: int
    is_exceeded: bool


def limit_of(policy: str) -> Limit | None:
    """The rate of a policy. Raises ImproperlyConfigured for one that is none, such as `10/week`."""
    rate = SimpleRateThrottle.THROTTLE_RATES.get(policy)
    if rate is None:
        return None
    match = RATE.fullmatch(str(rate))
    if match is None:
        raise ImproperlyConfigured(f"THROTTLE_{policy.upper()} is {rate!r}, which is no rate such as 600/min or 5/day.")
    return Limit(policy, int(match[1]), SECONDS[match[2]])


def count(owners: Mapping[str, str], *, given_back: Mapping[str, str] = NOBODY) -> list[Counted]:
    """Count one more for the owner of each policy, and one less for those of `given_back`, all at once.

    Returns what the former came to. A window begins with the first that is counted in it.
    """
    limits = [(limit, owner) for policy, owner in owners.items() if (limit := limit_of(policy))]
    returned = [(limit, owner) for policy, owner in given_back.items() if (limit := limit_of(policy))]
    hits = [_hit(limit, owner, 1) for limit, owner in limits] + [_hit(limit, owner, -1) for limit, owner in returned]
    if not hits:
        return []
    return [_counted(limit, came_to) for (limit, _), came_to in zip(limits, counts.add(*hits), strict=False)]


def _hit(limit: Limit, owner: str, by: int) -> Hit:
    # The window is part of the name: a rate that changes begins anew.
    return Hit(f"{limit.policy}:{limit.window}:{owner}", limit.window, by)


def _counted(limit: Limit, came_to: counts.Count) -> Counted:
    remaining = max(limit.quota - came_to.value, 0)
    return Counted(*limit, remaining, came_to.seconds, came_to.value > limit.quota)


def longest_wait(counted: list[Counted]) -> int | None:
    """Seconds until none of the policies is exceeded any more; None if none is."""
    return max((one.reset for one in counted if one.is_exceeded), default=None)


def count_request(request: Any, owners: Mapping[str, str], *, given_back: Mapping[str, str] = NOBODY) -> list[Counted]:
    """As `count`, for a request: its answer and the log tell what was counted, and nothing of what is given back."""
    counted = count(owners, given_back=given_back)
    # Of the request of Django, which DRF's hands on. One that no middleware has seen tells nobody.
    told: list[Counted] = getattr(request, "counted", [])
    told[:] = [one for one in told if one.policy not in given_back] + counted
    return counted
