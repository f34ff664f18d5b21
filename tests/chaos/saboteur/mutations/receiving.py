"""What a worker makes of its broker, and of what it receives."""

from redis.exceptions import ResponseError

from jobs.celery_hooks import broker
from jobs.worker import consumer
from tests.chaos.saboteur.mutations.ways import mutation
from tests.chaos.saboteur.points import wrap


@mutation
def refusals_end_workers() -> None:
    """An error that the broker answers is no outage: as kombu has it."""
    errors = broker.Transport.connection_errors
    broker.Transport.connection_errors = tuple(error for error in errors if error is not ResponseError)


@mutation
def sense_unchecked() -> None:
    """What a worker receives, it believes."""
    wrap(consumer, "check", lambda check, message: None)
