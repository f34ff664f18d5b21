"""What this process sends: its queries to PostgreSQL."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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
