"""Ends a process in which a loop hangs, for whoever supervises it to start another one."""

import faulthandler
import threading
import time

#: Seconds between two looks at a loop, at the most.
INTERVAL = 1.0


class Watchdog:
    """Ends the process, with the traceback of each thread, if one of its loops stays away for `seconds`.

    A server that is cut off behind a proxy that lives on never answers, not even with a time-out.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._interval = min(INTERVAL, seconds / 2)
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def look_in(self, loop: str) -> None:
        """This loop is alive. It is watched from its first call on, until it leaves."""
        now = time.monotonic()
        if now >= self._seen.get(loop, -self._interval) + self._interval:
            with self._lock:
                self._seen[loop] = now
                self._arm(now)

    def leave(self, loop: str) -> None:
        """This loop has ended."""
        with self._lock:
            self._seen.pop(loop, None)
            self._arm(time.monotonic())

    def _arm(self, now: float) -> None:
        # There is one timer in a process: it runs out when the loop that was seen first has been away for too long.
        if self._seen:
            left = min(self._seen.values()) + self._seconds - now
            faulthandler.dump_traceback_later(max(left, 0.001), exit=True)
        else:
            faulthandler.cancel_dump_traceback_later()
