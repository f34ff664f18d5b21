"""A world whose broker is RabbitMQ. Its cache stays on Valkey, which nobody touches."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.servers import Stack, temporary_stack
from tests.chaos.pace import Pace
from tests.chaos.world import World, through
from tests.rabbitmq import RabbitMQ

#: The scenarios in which the broker has a part.
ON_RABBITMQ = (
    "broker-down",
    "broker-emptied",
    "broker-black-hole",
    "child-killed-atomic",
    "worker-killed",
    "relay-killed",
    "two-relays-two-workers",
)


class RabbitMQWorld(World):
    def __init__(self, stack: Stack, folder: Path, pace: Pace, rabbitmq: RabbitMQ) -> None:
        super().__init__(stack, folder, pace, broker_port=rabbitmq.port)
        self.rabbitmq = rabbitmq

    def servers(self) -> dict[str, str]:
        urls = {"REDIS_URL": self.stack.env["REDIS_URL"], "BROKER_URL": through(self.broker, self.rabbitmq.url)}
        return {**super().servers(), **urls}

    def empty_broker(self) -> None:
        """Kill it; what comes back knows nothing."""
        self.rabbitmq.kill()
        self.rabbitmq.forget()
        self.rabbitmq.start()

    def empty_queues(self) -> None:
        self.rabbitmq.purge("jobs", "celery")

    def queued(self) -> int:
        return self.rabbitmq.length("jobs")


@contextmanager
def new_rabbitmq_world(pace: Pace) -> Iterator[RabbitMQWorld]:
    with temporary_stack() as stack:
        folder = stack.mail.calls.parent
        with (
            RabbitMQ(folder / "rabbitmq") as rabbitmq,
            RabbitMQWorld(stack, folder, pace, rabbitmq) as world,
        ):
            world.found(spares=1)
            yield world
