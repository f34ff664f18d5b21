"""Heartbeats: relays, workers and beat leave a sign of life in the database, for `/readyz` to see."""

import os
import socket
from typing import Any

from jobs.models import Heartbeat

RECORD_HEARTBEAT = """
    INSERT INTO public.jobs_relaypulse (name, kind, seen_at, error)
    VALUES (%(name)s, %(kind)s, clock_timestamp(), %(error)s)
    ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, seen_at = excluded.seen_at, error = excluded.error
"""
#: Characters of an error that are kept.
LONGEST_ERROR = 1000


def name_of_process() -> str:
    """How this process is called in the table of heartbeats: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def record(connection: Any, kind: Heartbeat.Kind, *, error: str = "") -> None:
    """Leave the sign of life of this process on a connection, Django's or psycopg's, in a statement of its own.

    `error` says why the process can't do its work at the moment. Raises the database's errors.
    """
    stored = error.replace("\0", "").encode(errors="backslashreplace").decode()[:LONGEST_ERROR]
    parameters = {"name": name_of_process(), "kind": kind.value, "error": stored}
    with connection.cursor() as cursor:
        cursor.execute(RECORD_HEARTBEAT, parameters)
