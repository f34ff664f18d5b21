"""The addresses of broker and cache, and how the broker is set up.

Celery and Django take almost any address. They guess what they can't read, and end up at another server, or speak the
wrong protocol to the right one. So an address is looked at before anybody uses it.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from celery import Celery
from django.conf import settings
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string
from kombu.connection import Connection
from kombu.exceptions import KombuError

from tenants.cache import JSONCache

logger = logging.getLogger(__name__)

#: Caches that keep their values as JSON, in this process, or not at all
HARMLESS = (JSONCache, LocMemCache, DummyCache)
TLS = {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
#: Each scheme, and the parameters that may follow the `?`
BROKERS: dict[str, set[str]] = {
    "redis": set(),
    "rediss": TLS,
    "redis+socket": {"virtual_host"},
    "amqp": set(),
    "amqps": set(),
}
CACHES: dict[str, set[str]] = {"redis": set(), "rediss": TLS, "unix": {"db"}}
#: What names the database there
SOCKETS = {"redis+socket": "virtual_host", "unix": "db"}
#: A connection's options, in seconds, for those who can't wait for a broker that is away: Redis' names, and RabbitMQ's.
SHORT = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "connect_timeout": 0.5, "read_timeout": 0.5}

BROKER_HINT = (
    "Set BROKER_URL (or REDIS_URL, for broker and cache) to redis://:password@host:6379/0, rediss:// with TLS, "
    "redis+socket:///path?virtual_host=0, or amqp://user:password@host:5672/vhost, amqps:// with TLS. "
    "Percent-encode what is special in the password. For Valkey write redis. Sentinels and clusters of Redis are not "
    "supported: name the one primary, or what stands before it."
)
CACHE_HINT = (
    "Set CACHE_URL (or REDIS_URL, for broker and cache) to redis://:password@host:6379/0, rediss:// with TLS, or "
    "unix:///path?db=0. Percent-encode what is special in the password. For Valkey write redis. Sentinels and clusters "
    "are not supported."
)


def outages(broker: Connection) -> tuple[type[BaseException], ...]:
    """What is raised while a broker is away, or refuses."""
    return (OSError, KombuError, *broker.connection_errors, *broker.channel_errors)


def check_broker(app: Celery) -> Iterator[CheckMessage]:
    """What is wrong with the addresses of the broker."""
    for url in {app.conf.broker_read_url, app.conf.broker_write_url}:
        problem = find_problem(url, BROKERS)
        if not problem and url != settings.BROKER_URL:
            # TLS, for one, follows BROKER_URL.
            problem = "is not BROKER_URL: CELERY_BROKER_URL, or another setting of Celery's, overrides that"
        if problem:
            yield Error(f"The broker's address {problem}.", hint=BROKER_HINT, id="jobs.E020")


def check_caches() -> Iterator[CheckMessage]:
    """What is wrong with the caches: with the addresses of those in Redis, and with how they keep their values."""
    for alias, cache in settings.CACHES.items():
        backend = import_string(str(cache["BACKEND"]))
        if not issubclass(backend, HARMLESS):
            yield Error(
                f"The cache {alias!r} may unpickle what its server holds: whoever writes there runs code here.",
                hint="Set its BACKEND to tenants.cache.JSONCache, as config/settings.py does.",
                id="jobs.E022",
            )
        if not issubclass(backend, RedisCache):
            continue
        location = cache.get("LOCATION")
        for url in location if isinstance(location, list | tuple) else [location]:
            if problem := find_problem(url, CACHES):
                yield Error(f"The address of the cache {alias!r} {problem}.", hint=CACHE_HINT, id="jobs.E021")


def find_problem(url: Any, schemes: dict[str, set[str]]) -> str | None:
    """What is wrong with an address, in words that quote no part in which its password may be; None if it is good."""
    if not isinstance(url, str):
        return "is missing, or not a single one"
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):
        return "has no scheme"
    if scheme not in schemes:
        return f"has the scheme {scheme}, which is none of {', '.join(schemes)}"
    try:
        # As the libraries do, which read any scheme like this one.
        parts = urlsplit(f"http://{rest}")
        parts.port  # noqa: B018  # it raises
    except ValueError:
        return "can't be read"
    return _find_problem(scheme, parts, schemes[scheme])


def _find_problem(scheme: str, parts: SplitResult, parameters: set[str]) -> str | None:
    if parts.fragment or "@" in f"{parts.path}{parts.query}" or ";" in parts.geturl():
        return "has a character that must be percent-encoded, or names several servers"
    if scheme not in SOCKETS and not parts.hostname:
        return "names no host"
    if scheme in SOCKETS and (parts.hostname or not parts.path.strip("/")):
        return "names no path of a socket"
    query = parse_qsl(parts.query, keep_blank_values=True)
    if unknown := {name for name, _ in query} - parameters:
        return f"has the parameter {min(unknown)}, which {scheme} does not take"
    return _find_problem_of_database(scheme, parts.path, dict(query))


def _find_problem_of_database(scheme: str, path: str, query: dict[str, str]) -> str | None:
    if scheme.startswith("amqp"):
        return None
    number = query.get(SOCKETS[scheme], "") if scheme in SOCKETS else path[1:]
    if number and not re.fullmatch(r"[0-9]+", number):
        return "names a database that is no number"
    return None


def warn_of_eviction(app: Celery) -> None:
    """Log a warning if the broker, when it is full, drops messages. A broker that is away, or won't tell, is passed."""
    with app.connection_for_write(transport_options=SHORT) as broker:
        if broker.transport.driver_type != "redis":
            return
        try:
            # Not CONFIG GET, which many providers forbid.
            memory = broker.default_channel.client.info("memory")
        except outages(broker) as error:
            logger.info("The broker does not tell what it does when it is full: %s", error)
            return
    policy = str(memory.get("maxmemory_policy"))
    # The others drop only keys that have a time to live, which queues don't.
    if policy.startswith("allkeys") and memory.get("maxmemory"):
        logger.warning(
            "When the broker is full it drops any key, queues included: its maxmemory-policy is %s. Plain tasks would "
            "be lost, and durable jobs sent again, late. Set it to noeviction, or to volatile-lru where the caches are "
            "on the same server.",
            policy,
        )
