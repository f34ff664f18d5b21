"""The Redis transport, with less bookkeeping, and with more patience.

kombu notes each message that a worker holds in two keys of Redis (`unacked`, `unacked_index`), to deliver it again when
the worker has vanished: half of the work of a worker's main process. A durable job's row does that, and sooner.

What Redis answers with an error (it is read-only, full, loading) counts as an outage: a worker waits, and connects
anew. What lies in a queue or in `unacked` and is no message is dropped with a line in the log, since no worker can make
sense of it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.encoding import safe_repr
from redis.exceptions import RedisError, ResponseError

from jobs.message import is_durable

logger = logging.getLogger(__name__)


class NoMessage(ValueError):
    """What came out of a queue is no message of kombu's."""


class Message(virtual.Message):
    """A message that has what the QoS notes of it."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel, **kwargs)  # type: ignore[no-untyped-call]  # as below
            route = (self.delivery_info["exchange"], self.delivery_info["routing_key"], self.delivery_tag)
        except Exception as error:
            raise NoMessage(f"{type(error).__name__}: {error}") from error
        if not all(isinstance(part, str) for part in route):
            raise NoMessage(f"Its route and delivery tag are {route!r}")


class QoS(redis.QoS):
    """What Redis notes of the messages in a worker's hands: those of plain tasks alone."""

    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        """A pipeline for the notes of one message."""
        # Without MULTI: half a note is harmless, because a message is restored only if both keys have it.
        with self.channel.conn_or_acquire(client) as client:
            yield pipe or client.pipeline(transaction=False)

    def append(self, message: Any, delivery_tag: str) -> None:
        """A worker received a message."""
        if is_durable(message.headers):
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types

    def ack(self, delivery_tag: str) -> None:
        """A worker is through with a message."""
        if self._durable(delivery_tag):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # as above

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """A worker does not run a message; with `requeue`, another one may."""
        if not self._durable(delivery_tag):
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]  # as above
            return
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
        virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """What a worker took and did not begin goes back to the queue when it shuts down."""
        if (message := self._durable(tag)) is None:
            self._restore_note(tag, client, leftmost)
            return
        route = (message.delivery_info["exchange"], message.delivery_info["routing_key"])
        with self.channel.conn_or_acquire(client) as client, client.pipeline() as pipe:
            self.channel._do_restore_message(message._raw, *route, pipe, leftmost)
            pipe.execute()

    def _restore_note(self, tag: str, client: Any, leftmost: bool) -> None:
        """What Redis notes of a plain task's message becomes a message again; a note that makes no sense is dropped."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]  # as above
        except (RedisError, OSError):
            raise
        except Exception as error:
            # Left there, it would end each worker that starts, and keep the notes after it from being restored.
            with self.channel.conn_or_acquire(client) as client:
                note = client.hget(self.unacked_key, tag)
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]  # as above
            logger.error("Dropped what is no message from %s (%r): %s", self.unacked_key, error, safe_repr(note)[:500])

    def _durable(self, delivery_tag: str) -> Any:
        message = self._delivered.get(delivery_tag)
        return message if message is not None and is_durable(message.headers) else None


class Channel(redis.Channel):
    """A channel that keeps one client, with our QoS."""

    QoS = QoS
    Message = Message

    _commands: Any = None

    def _has_queue(self, queue: str, **options: Any) -> bool:
        # An empty list is no key: a queue can't be missing.
        return True

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client for as long as its pool lives: kombu makes one for each command, which costs more than that."""
        if client is None:
            if self._commands is None or self._commands.connection_pool is not self.pool:
                self._commands = self._create_client()  # type: ignore[no-untyped-call]  # as above
            client = self._commands
        yield client

    def _brpop_read(self, **options: Any) -> Any:
        deliveries = self.connection.deliveries
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # as above
        except (RedisError, OSError, Empty):
            raise
        except Exception as error:
            if self.connection.deliveries != deliveries:
                raise  # it was read, and this is what its receiver raised
            logger.error("Dropped what is no message from a queue (%r)", error)


class Transport(redis.Transport):
    """For redis://, rediss:// and redis+socket://."""

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ResponseError)

    #: How many messages were read
    deliveries = 0

    def _deliver(self, message: Any, queue: str) -> None:
        self.deliveries += 1
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]  # as above
        except NoMessage as error:
            logger.error("Dropped what is no message from %s (%s): %s", queue, error, safe_repr(message)[:500])
