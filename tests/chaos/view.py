"""What the driver sees of the servers, past the proxies."""

from collections.abc import Sequence
from typing import Any

import psycopg
import redis


class View:
    def __init__(self, database_url: str, redis_url: str) -> None:
        # The role's own path leads nowhere.
        self._database_url = f"{database_url}?options=-csearch_path%3Dpublic"
        self._connection: psycopg.Connection | None = None
        self.redis = redis.Redis.from_url(redis_url)

    def close(self) -> None:
        self._disconnect()
        self.redis.close()

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Tried again once: the server may have been killed meanwhile, and be back."""
        for _ in range(2):
            try:
                cursor = self._connected().execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description is not None else []
            except psycopg.OperationalError as error:
                failure = error
                self._disconnect()
        raise failure

    def queued(self) -> int:
        return int(self.redis.llen("jobs"))

    def tell_valkey(self, *command: str) -> None:
        self.redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no types for it

    def push(self, queue: str, message: bytes) -> None:
        """As the next that is taken."""
        self.redis.rpush(queue, message)

    def empty_queues(self) -> None:
        self.redis.delete("jobs", "celery", "unacked", "unacked_index")

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.broken:
            self._connection = psycopg.connect(self._database_url, autocommit=True, connect_timeout=5)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
