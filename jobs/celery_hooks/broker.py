"""The Redis transport, with less bookkeeping, and with more patience.

kombu notes each message that a worker holds in two keys of Redis (`unacked`, `unacked_index`), to deliver it again when
the worker has vanished: half of the work of a worker's main process. A durable job's row does that, and sooner.

What Redis answers with an error (it is read-only, full, loading) counts as an outage: a worker waits, and connects
anew. A note that Redis refuses is left out, and the task runs. What lies in a queue or in `unacked`, and is no message,
is dropped with a line in the log, since no worker can make sense of it.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

from kombu.entity import Queue
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str, safe_repr
from redis.exceptions import RedisError, ResponseError

from jobs.message import is_durable

logger = logging.getLogger(__name__)

#: Seconds between two lines in the log that say that Redis takes no notes
SILENCE = 60.0


class NoMessage(ValueError):
    """What came out of a queue is no message of kombu's."""


class Message(virtual.Message):
    """A message that has what the QoS notes of it."""

    #: Whether Redis has a note of it
    is_noted = False

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel, **kwargs)  # type: ignore[no-untyped-call]  # as below
            route = (self.delivery_info["exchange"], self.delivery_info["routing_key"], self.delivery_tag)
        except Exception as error:
            raise NoMessage(f"{type(error).__name__}: {error}") from error
        if not all(isinstance(part, str) for part in route):
            raise NoMessage(f"Its route and delivery tag are {route!r}")


class QoS(redis.QoS):
    """What Redis notes of the messages in a worker's hands: those of plain tasks alone, where it takes the note."""

    _told_at = -SILENCE

    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        """A pipeline for the notes of one message."""
        # Without MULTI: half a note is harmless, because a message is restored only if both keys have it.
        with self.channel.conn_or_acquire(client) as client:
            yield pipe or client.pipeline(transaction=False)

    def append(self, message: Any, delivery_tag: str) -> None:
        """A worker received a message."""
        if not is_durable(message.headers):
            with self._without_note():
                super().append(message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types
                message.is_noted = True
                return
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """A worker is through with a message."""
        message = self._delivered.get(delivery_tag)
        if message is None or message.is_noted:
            with self._without_note():
                self._remove_from_indices(delivery_tag).execute()  # type: ignore[no-untyped-call]  # as above
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """A worker does not run a message; with `requeue`, another one may."""
        if not requeue:
            self.ack(delivery_tag)
            return
        self.restore_by_tag(delivery_tag, leftmost=True)
        virtual.QoS.ack(self, delivery_tag)

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """What vanished workers held goes back to the queues."""
        with self._without_note():
            super().restore_visible(*args, **options)  # type: ignore[no-untyped-call]  # as above

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """What a worker took and did not begin goes back to the queue when it shuts down."""
        message = self._delivered.get(tag)
        if message is None or message.is_noted:
            with self._without_note():
                self._restore_note(tag, client, leftmost)
                return
        if message is None:
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

    @contextmanager
    def _without_note(self) -> Iterator[None]:
        """Go on if Redis refuses: a note helps when a worker is killed, and must not keep it from its work."""
        try:
            yield
        except ResponseError as error:
            if time.monotonic() - self._told_at < SILENCE:
                return
            self._told_at = time.monotonic()
            logger.error("The broker refuses notes of plain tasks: a worker that is killed loses them (%s)", error)


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

    def types_of_keys(self, queues: Iterable[Queue]) -> dict[str, str]:
        """The keys behind these queues and the notes, without the prefix, and the type that each must have."""
        types = {self.unacked_key: "hash", self.unacked_index_key: "zset", self.unacked_mutex_key: "string"}
        for queue in queues:
            for step in self.priority_steps:
                types[self._q_for_pri(queue.name, step)] = "list"  # type: ignore[no-untyped-call]  # as above
            for table in (self.keyprefix_queue, self.keyprefix_binding_permanent):
                types[table % queue.exchange.name] = "set"
        return types


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


def explain_wrong_keys(channel: Any, queues: Iterable[Queue]) -> str:
    """Which keys of the broker are of a type that its commands refuse, and what to do about it; "" if none is.

    Somebody else has written there. Raises the broker's connection errors; a broker that is no Redis, or that keeps the
    types to itself, has no such keys.
    """
    if not isinstance(channel, Channel):
        return ""
    types = {f"{channel.global_keyprefix}{key}": kind for key, kind in channel.types_of_keys(queues).items()}
    try:
        with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for key in types:
                pipe.type(key)
            found = dict(zip(types, map(bytes_to_str, pipe.execute()), strict=True))
    except ResponseError:
        return ""
    wrong = [
        f"{key!r} is a {found[key]}, not a {kind}" for key, kind in types.items() if found[key] not in (kind, "none")
    ]
    if not wrong:
        return ""
    return f"Keys of the broker are of a wrong type: {'; '.join(wrong)}. Delete them (DEL); jobs are sent again."
