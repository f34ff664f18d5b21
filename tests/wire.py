"""What goes over the wire: queries of this process to PostgreSQL, commands of anyone to Redis."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from django.conf import settings

from tenants.connection import connection

QUERY = re.compile(r'\tF\t\d+\tQuery\t "(.*?)"\n(?=\d{4}-|\Z)', re.DOTALL)


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
    """The commands of the block to Redis that mention `about`, without the keys' prefix.

    Redis serves other test runs too: only those clients count that name a key with this prefix. A script's commands
    come from nobody, so each of them has to name one.
    """
    client = redis.Redis.from_url(settings.REDIS_URL)
    end = f"the end of {settings.REDIS_KEY_PREFIX}'s block"
    sent: list[str] = []
    seen: list[tuple[str | None, str]] = []
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py types it half
        yield sent
        client.echo(end)
        while end not in (record := monitor.next_command())["command"]:
            is_script = record["client_type"] == "lua"
            sender = None if is_script else f"{record['client_address']}:{record['client_port']}"
            seen.append((sender, record["command"]))
    client.close()
    prefix = settings.REDIS_KEY_PREFIX
    ours = {sender for sender, command in seen if sender and prefix in command}
    for sender, command in seen:
        if (sender in ours or prefix in command) and about in command:
            sent.append(command.replace(settings.REDIS_KEY_PREFIX, ""))
