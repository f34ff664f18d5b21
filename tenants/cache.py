"""The cache: its keys carry the tenant, and its values are JSON.

No tenant finds what another one has stored. Whatever somebody writes into Redis is data, and never code.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import ResponseError

from tenants.connection import connection

logger = logging.getLogger(__name__)

MISSING = object()
#: What has a meaning in a pattern of Redis
GLOB = re.compile(r"[*?[\]\\]")
#: Where the version begins in a key
NO_VERSION = "\0"
#: Keys at a time
BATCH = 1000
#: How Redis refuses a command because of what the key holds
REFUSALS = ("WRONGTYPE", "value is not an integer", "increment or decrement would overflow")


def key_of_tenant(key: str, key_prefix: str, version: int) -> str:
    """A cache's KEY_FUNCTION: the schema that is active is part of each key.

    What tenants share on purpose is stored in a cache with an alias of its own, and Django's own key function.
    """
    return f"{key_prefix}:{connection.schema_name}:{version}:{key}"


class JSONSerializer:
    """In the place of Django's, which pickles."""

    def dumps(self, value: Any) -> bytes:
        """Raises TypeError or ValueError for what is no JSON."""
        return json.dumps(value, allow_nan=False).encode()

    def loads(self, text: Any) -> Any:
        """Raises ValueError or RecursionError for what is no JSON."""
        return json.loads(text)


class JSONClient(RedisCacheClient):
    """Django's client, for which a value that it can't read is missing."""

    def __init__(self, servers: list[str], **options: Any) -> None:
        self._json = JSONSerializer()
        super().__init__(servers, serializer=self._json, **options)

    def get(self, key: Any, default: Any) -> Any:
        """As Django's."""
        try:
            text = self.get_client(key).get(key)
        except ResponseError as error:
            if not str(error).startswith(REFUSALS):
                raise
            return _warned(key, default)
        return self._read(key, text, default)

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """As Django's."""
        asked = list(keys)
        texts = self.get_client().mget(asked)
        found = {key: self._read(key, text, MISSING) for key, text in zip(asked, texts, strict=True)}
        return {key: value for key, value in found.items() if value is not MISSING}

    def incr(self, key: Any, delta: int) -> int:
        """As Django's, which raises ValueError if there is no key. A value that can't be counted on is removed."""
        try:
            return int(super().incr(key, delta))
        except ResponseError as error:
            if not str(error).startswith(REFUSALS):
                raise
            self.delete(key)
            raise ValueError(f"Key {key!r} held no number.") from None

    def _read(self, key: Any, text: Any, default: Any) -> Any:
        if text is None:
            return default
        try:
            return self._json.loads(text)
        except (ValueError, RecursionError):
            return _warned(key, default)


class JSONCache(RedisCache):
    """Django's cache in Redis, for values that are JSON: the others raise TypeError or ValueError when they are stored.

    What Redis holds and is no JSON was not stored by this cache, and counts as missing. `clear()` removes what this
    cache has of the tenant that is bound, or of all where they share it, and nothing else that is in Redis.
    """

    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = JSONClient

    def clear(self) -> None:
        """As Django's, which would flush the database: the other tenants' keys, and the broker's."""
        client = self._cache.get_client(write=True)
        beginning, _, _ = self.key_func("", self.key_prefix, NO_VERSION).partition(NO_VERSION)
        beginning = GLOB.sub(r"\\\g<0>", beginning)
        for keys in _batches(client.scan_iter(match=f"{beginning}*", count=BATCH)):
            client.unlink(*keys)


def _batches(keys: Iterator[Any]) -> Iterator[list[Any]]:
    return iter(lambda: list(islice(keys, BATCH)), [])


def _warned(key: Any, default: Any) -> Any:
    logger.warning("What Redis holds at %r is no value of the cache, and counts as missing", key)
    return default
