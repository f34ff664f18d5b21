"""The Redis transport, with less bookkeeping for durable jobs.

kombu notes each message that a worker holds in two keys of Redis (`unacked`, `unacked_index`), to deliver it again when
the worker has vanished: half of the work of a worker's main process. A durable job's row does that, and sooner.
"""

from typing import Any

from kombu.transport import redis, virtual

from jobs.app import is_durable


class QoS(redis.QoS):
    def append(self, message: Any, delivery_tag: str) -> None:
        if is_durable(message.headers):
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types

    def ack(self, delivery_tag: str) -> None:
        if self._durable(delivery_tag):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # as above

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._durable(delivery_tag):
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]  # as above
            return
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
        virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """What a worker took and did not begin goes back to the queue when it shuts down."""
        if (message := self._durable(tag)) is None:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]  # as above
            return
        route = (message.delivery_info["exchange"], message.delivery_info["routing_key"])
        with self.channel.conn_or_acquire(client) as client, client.pipeline() as pipe:
            self.channel._do_restore_message(message._raw, *route, pipe, leftmost)
            pipe.execute()

    def _durable(self, delivery_tag: str) -> Any:
        message = self._delivered.get(delivery_tag)
        return message if message is not None and is_durable(message.headers) else None


class Channel(redis.Channel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel
