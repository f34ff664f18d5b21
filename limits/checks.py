"""Django system checks: of rates that can't be read, and of a number of proxies that is none."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from limits.rates import limit_of

HINT = "Write it as so many per s, min, h or day, and at least one."


@register
def check_limits(**kwargs: Any) -> list[CheckMessage]:
    """What Django's `check` runs."""
    return [*_rates(), *_proxies()]


def _rates() -> Iterator[CheckMessage]:
    for policy in settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]:
        try:
            limit = limit_of(policy)
        except ImproperlyConfigured as error:
            yield Error(str(error), hint=HINT, id="limits.E001")
        else:
            if limit and limit.quota == 0:
                yield Error(f"THROTTLE_{policy.upper()} lets nothing through.", hint=HINT, id="limits.E001")


def _proxies() -> Iterator[CheckMessage]:
    if settings.NUM_PROXIES < 0:
        yield Error(
            f"NUM_PROXIES is {settings.NUM_PROXIES}.",
            hint="Count the proxies in front that append to X-Forwarded-For; 0 if there is none.",
            id="limits.E002",
        )
