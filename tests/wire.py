"""What goes over the wire: queries of this process to PostgreSQL, commands of anyone to Redis."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from django.conf import settings

from tenants.connection import connection

QUERY = re.compile(r'\tF\t\d+\tQuery\t "(.*?)"\n(?=\d{4}-|\Z)', re.DOTALL)
END = "the end of the block"


@contextmanager
def queries() -> Iterator[list[str]]:
    """The messages of the block to PostgreSQL, in order, as libpq has them; one is one round trip."""
    connection.ensure_connection()
    session = connection.connection.pgconn
    sent: list[str] = []
    with tempfile.TemporaryFile("w+") as log:
        session.trace(log.fileno())
        yield sent
        session.untrace()
        log.seek(0)
        sent += [" ".join(query.split()) for query in QUERY.findall(log.read())]


@contextmanager
def commands(about: str) -> Iterator[list[str]]:
    """The commands of the block to Redis that mention `about`, without the keys' prefix."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    sent: list[str] = []
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py types it half
        yield sent
        client.echo(END)
        while END not in (command := monitor.next_command()["command"]):
            if about in command:
                sent.append(command.replace(settings.REDIS_KEY_PREFIX, ""))
    client.close()
