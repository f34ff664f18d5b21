"""What maintenance can't handle: it is reported once for each reason, and tried again later each time."""

import logging
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import Error

from jobs.errors import describe
from tenants.connection import connection

logger = logging.getLogger(__name__)

#: Seconds until the next try, at first and at the most.
FIRST_PAUSE = 1.0
MAX_PAUSE = 60.0
#: How many things are remembered. After that, all of them are tried and reported anew.
MEMORY = 100_000


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with one thing, and when it is worth another try."""

    reasons: frozenset[Hashable]
    pause: float
    until: float


class Troubles:
    """Keeps rows, tenants and sweeps that fail from stopping the others."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Trouble] = {}

    def __len__(self) -> int:
        return len(self._known)

    def is_due(self, thing: Hashable) -> bool:
        """Whether it is worth a try now."""
        trouble = self._known.get(thing)
        return trouble is None or trouble.until <= time.monotonic()

    @contextmanager
    def isolated(self, thing: Hashable, failure: str) -> Iterator[None]:
        """Log what is raised, and go on. Raises it if the connection broke: then nothing else works, either."""
        try:
            yield
        except Exception as error:
            if isinstance(error, Error) and not connection.is_usable():
                raise
            self._report(thing, error, failure)
        else:
            self._known.pop(thing, None)

    def _report(self, thing: Hashable, error: Exception, failure: str) -> None:
        if len(self._known) > MEMORY:
            self._known.clear()
        before = self._known.get(thing, Trouble(frozenset(), FIRST_PAUSE / 2, 0))
        reason = _reason(error)
        if reason not in before.reasons:
            logger.error("%s: %r", failure, error, exc_info=error)
        pause = min(2 * before.pause, MAX_PAUSE)
        self._known[thing] = Trouble(before.reasons | {reason}, pause, time.monotonic() + pause)


def _reason(error: Exception) -> Hashable:
    # The text of an error of the database may differ each time: it can name processes and rows.
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    return type(error), sqlstate or describe(error)
