"""How often a log-in may be tried. One that has to wait is refused before anything is hashed.

Three things count. An address may try so often at all (the policy `login`). An account may be tried from one address,
and from all of them together, LOGIN_TRIES times an hour; each further try closes it for twice as long as the one
before, for LOGIN_MAX_WAIT seconds at the most. What others try does not hold up an address from which that account
logged in before. None of this asks whether there is such an account.
"""

import hashlib
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed
from django.dispatch import receiver
from rest_framework.exceptions import Throttled

from limits import counts
from limits.addresses import client_address, client_network
from limits.counts import Hit
from limits.rates import count_request, longest_wait
from tenants.connection import connection
from tenants.text import fold_email

logger = logging.getLogger("tenantry.logins")

HOUR = 60 * 60
DAY = 24 * HOUR
#: New addresses from which an account may become known within LOGIN_KNOWN_DAYS
MAX_KNOWN = 50
T = TypeVar("T")


def limit_log_in(check: Callable[[], T | None], *, account: str, request: Any) -> T | None:
    """What `check` returns: the user, or None for wrong credentials. It hashes a password.

    Raises Throttled, and does not call it, if the log-in has to wait. A request of None has no address.
    """
    network = "" if request is None else client_network(request)
    attempt = Attempt(account, network)
    if wait := _count_address(request, network) or attempt.begin():
        logger.warning("log-in throttled", extra=_told(account, request))
        raise Throttled(wait, detail="Too many log-ins were tried.")
    user = check()
    if user is not None:
        attempt.succeed()
    return user


def is_own_password(user: Any, password: str | None, *, request: Any) -> bool:
    """Whether this is the password of a user who is logged in. It is limited and logged as a log-in is.

    Raises Throttled: whoever holds a stolen token or session guesses as slowly as at log-in.
    """
    account = user.get_username()
    if limit_log_in(lambda: user.check_password(password) or None, account=account, request=request):
        return True
    user_login_failed.send(sender=__name__, credentials={"username": account}, request=request)
    return False


@receiver(user_login_failed)
def log_failure(credentials: dict[str, Any], request: Any = None, **kwargs: Any) -> None:
    """Write a failed log-in to the log, whoever found that it failed."""
    account = credentials.get("username") or credentials.get(get_user_model().USERNAME_FIELD)
    logger.warning("log-in failed", extra=_told(account, request))


def _told(account: Any, request: Any) -> dict[str, Any]:
    return {"account": account, "address": None if request is None else client_address(request)}


def _count_address(request: Any, network: str) -> int | None:
    return longest_wait(count_request(request, {"login": network})) if network else None


class Gate:
    """Lets LOGIN_TRIES tries an hour pass at once, and further ones after waits that grow."""

    def __init__(self, name: str) -> None:
        self.tries = f"login:{name}:tries"
        self.closed = f"login:{name}:closed"
        #: Whether this try has closed it for the next one
        self.closed_here = False


class Attempt:
    """One try to log in. It counts as a failure until it succeeds: many at once must not pass together."""

    def __init__(self, account: str, network: str) -> None:
        name = _digest(account)
        self._is_known = False
        self._known, self._count_of_known = f"login:{name}:known:{network}", f"login:{name}:known"
        self._of_all = Gate(name)
        self._of_pair = Gate(f"{name}:{network}") if network else None

    def begin(self) -> int | None:
        """Count the try. Returns the seconds to wait if it may not be made yet; then it has not counted."""
        self._is_known = self._of_pair is not None and counts.has(self._known)
        gates = self._gates()
        tries = counts.add(*(Hit(gate.tries, HOUR) for gate in gates))
        waits = [(gate, wait) for gate, count in zip(gates, tries, strict=True) if (wait := wait_after(count.value))]
        if not waits:
            return None
        closed = counts.add(*(Hit(gate.closed, wait) for gate, wait in waits))
        for (gate, _), count in zip(waits, closed, strict=True):
            gate.closed_here = count.value == 1
        refusals = [count.seconds for count in closed if count.value > 1]
        if not refusals:
            return None
        self._take_back()
        return max(refusals)

    def succeed(self) -> None:
        """The try does not count, and its address is known from now on."""
        self._take_back()
        if self._of_pair is not None:
            counts.delete(self._of_pair.tries)
            self._remember()

    def _gates(self) -> list[Gate]:
        gates = [self._of_pair, None if self._is_known else self._of_all]
        return [gate for gate in gates if gate is not None]

    def _take_back(self) -> None:
        gates = self._gates()
        counts.add(*(Hit(gate.tries, HOUR, by=-1) for gate in gates))
        if opened := [gate.closed for gate in gates if gate.closed_here]:
            counts.delete(*opened)

    def _remember(self) -> None:
        seconds = settings.LOGIN_KNOWN_DAYS * DAY
        if seconds == 0:
            return
        if self._is_known or counts.add(Hit(self._count_of_known, seconds))[0].value <= MAX_KNOWN:
            counts.start(self._known, seconds)


def wait_after(tries: int) -> int:
    """For how many seconds a gate is closed after so many tries; 0 if it stays open."""
    beyond = tries - settings.LOGIN_TRIES
    if beyond <= 0:
        return 0
    return int(min(2 ** min(beyond - 1, 20), settings.LOGIN_MAX_WAIT))


def _digest(account: str) -> str:
    """One account has one name here, and a short one, however its address is spelt."""
    name = f"{connection.schema_name}\n{fold_email(account)}"
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
