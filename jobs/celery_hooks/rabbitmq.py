"""The RabbitMQ transport, which takes queues as they are.

RabbitMQ refuses to declare a queue again with other arguments than it has, and closes the channel. Whoever runs it may
have made the queues before, or set arguments by hand: such a queue serves as well.
"""

from typing import Any

from amqp.exceptions import NotFound
from kombu.transport import pyamqp


class Channel(pyamqp.Channel):
    """A channel that declares no durable queue that is there."""

    def queue_declare(self, queue: str = "", passive: bool = False, durable: bool = False, **options: Any) -> Any:
        """Make a queue, unless it exists; its name, and how many messages and consumers it has."""
        if durable and not passive and (found := self._look(queue)):
            return found
        return super().queue_declare(queue, passive=passive, durable=durable, **options)

    def _look(self, queue: str) -> Any:
        # On a channel of its own, because RabbitMQ closes it when there is no such queue.
        with self.connection.channel() as channel:
            try:
                return channel.queue_declare(queue, passive=True)
            except NotFound:
                return None


class Connection(pyamqp.Connection):
    """A connection with such channels."""

    Channel = Channel


class Transport(pyamqp.Transport):
    """For amqp://."""

    Connection = Connection


class SSLTransport(pyamqp.SSLTransport):
    """For amqps://."""

    Connection = Connection
