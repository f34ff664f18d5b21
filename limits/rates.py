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

RATE = re.compile(r"([0-9]+)/([smhd]|(?:sec|second|min|minute|hour|day)s?)")
SECONDS = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}


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
    return Limit(policy, int(match[1]), SECONDS[match[2][0]])


def count(owners: Mapping[str, str]) -> list[Counted]:
    """Count one more for the owner of each policy, all at once. Returns what they came to.

    A window begins with the first that is counted in it.
    """
    limits = _limits(owners)
    return [_counted(limit, count) for limit, count in zip(limits, _add(limits, 1), strict=True)]


def give_back(owners: Mapping[str, str]) -> None:
    """Count one less for the owner of each policy: what was counted did not happen."""
    _add(_limits(owners), -1)


def _limits(owners: Mapping[str, str]) -> dict[Limit, str]:
    """The owner of each policy that has a rate."""
    return {limit: owner for policy, owner in owners.items() if (limit := limit_of(policy))}


def _add(limits: dict[Limit, str], by: int) -> list[counts.Count]:
    hits = [Hit(_name(limit, owner), limit.window, by) for limit, owner in limits.items()]
    return counts.add(*hits) if hits else []


def _name(limit: Limit, owner: str) -> str:
    # The window is part of the name: a rate that changes begins anew.
    return f"{limit.policy}:{limit.window}:{owner}"


def _counted(limit: Limit, count: counts.Count) -> Counted:
    remaining = max(limit.quota - count.value, 0)
    return Counted(*limit, remaining, count.seconds, count.value > limit.quota)


def longest_wait(counted: list[Counted]) -> int | None:
    """Seconds until none of the policies is exceeded any more; None if none is."""
    return max((one.reset for one in counted if one.is_exceeded), default=None)


def count_request(request: Any, owners: Mapping[str, str]) -> list[Counted]:
    """As `count`, for a request: its answer and the log tell what was counted."""
    counted = count(owners)
    tell(request, counted)
    return counted


def tell(request: Any, counted: list[Counted]) -> None:
    """Let the answer to a request and its line in the log tell what was counted."""
    # Of the request of Django, which DRF's hands on. One that no middleware has seen tells nobody.
    getattr(request, "counted", []).extend(counted)


def count_late(request: Any, policy: str, owner: str) -> None:
    """Count a request that was answered. This process then remembers for itself when that was the last one."""
    for counted in count_request(request, {policy: owner}):
        if counted.remaining == 0:
            counts.own.start(f"last:{policy}:{counted.window}:{owner}", counted.reset)


def remembered(policy: str, owner: str) -> list[Counted]:
    """The policy, if this process remembers that it is exceeded. It asks nobody, so that costs nothing."""
    limit = limit_of(policy)
    seconds = counts.own.seconds_left(f"last:{_name(limit, owner)}") if limit else 0
    return [Counted(*limit, 0, seconds, True)] if limit and seconds else []
