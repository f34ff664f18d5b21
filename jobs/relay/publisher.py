"""The broker's queue of durable jobs: a buffer, kept short, since depth is latency for whoever's turn is next."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from celery import Celery
from kombu.connection import Connection
from kombu.messaging import Producer

from jobs.celery_hooks.broker import explain_wrong_keys
from jobs.message import QUEUE
from jobs.relay.line import BATCH, Due
from jobs.servers import outages

#: Messages in the broker, whoever drains them
MIN_DEPTH = 2
MAX_DEPTH = 2000
#: So many are there where workers take as many in a moment, lest they run dry while the relay sleeps. What slow workers
#: have in front of them would be a neighbour's for longer than that.
STEADY_DEPTH = 8
#: Seconds
MOMENT = 0.5


class SendJob(Protocol):
    """Publishes the message of one job."""

    def __call__(self, job: Due, *, producer: Producer) -> None: ...


class Publisher:
    """Fills the queue of durable jobs, as deep as workers drain it. It connects when it is first used."""

    def __init__(
        self,
        app: Celery,
        send_job: SendJob,
        *,
        broker: Connection | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._send_job = send_job
        self._broker = broker or app.connection_for_write()
        self._clock = clock
        self._producer: Producer | None = None
        self._expected = 0
        # When workers took how many
        self._taken: deque[tuple[float, int]] = deque()
        #: How many messages workers took between the last two looks at the queue.
        self.drained = 0

    @property
    def outages(self) -> tuple[type[BaseException], ...]:
        """What is raised while the broker is away, or refuses."""
        return outages(self._broker)

    def room(self) -> int:
        """How many messages the queue has room for; 0 while it is more than half full.

        One larger batch costs less than many small ones.
        """
        length = self._connected().channel.queue_declare(QUEUE, passive=True).message_count
        self.drained = max(self._expected - length, 0)
        depth = min(max(2 * self.drained, MIN_DEPTH, min(self._taken_lately(), STEADY_DEPTH)), MAX_DEPTH)
        self._expected = length
        return depth - length if 2 * length <= depth else 0

    def _taken_lately(self) -> int:
        now = self._clock()
        self._taken.append((now, self.drained))
        while self._taken[0][0] <= now - MOMENT:
            self._taken.popleft()
        return sum(number for _, number in self._taken)

    def connect(self) -> None:
        """Make sure of the connection, so that nothing is marked as sent while the broker is away."""
        self._connected()

    def publish(self, due: Sequence[Due]) -> None:
        """Send the messages of jobs that are marked as sent, in one batch."""
        producer = self._connected()
        with producer.batch(max_size=BATCH):
            for job in due:
                self._send_job(job, producer=producer)
        # Not before the batch has reached the broker: what failed would look as if workers had taken it.
        self._expected += len(due)

    def find_wrong_keys(self) -> str:
        """Which keys of the broker nobody can use, and what to do about it; "" if there are none."""
        return explain_wrong_keys(self._connected().channel, self._app.amqp.queues.values())

    def explain(self, error: Exception) -> str:
        """What is known of a refusal beside the broker's own words. It raises none of `outages`."""
        if not isinstance(error, self._broker.channel_errors):
            return ""
        try:
            return self.find_wrong_keys()
        except self.outages:
            return ""

    def close(self) -> None:
        """Drop the connection."""
        self._producer = None
        self._broker.release()

    def _connected(self) -> Producer:
        if self._producer is None:
            self._broker = self._broker.clone()
            self._producer = self._app.amqp.Producer(self._broker.channel(), auto_declare=False)
            self._app.amqp.queues[QUEUE](self._producer.channel).declare()
        return self._producer
