"""The defaults of database sessions. They live on the role of DATABASE_URL, in its database.

A `RESET ALL` and a pooler's fresh server connection restore them. The release step writes them, and a process verifies
at its start that they hold.
"""

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db.backends.signals import connection_created

from tenants.connection import connection, execute, fetch_one
from tenants.poolers import find_pooler_fault

logger = logging.getLogger(__name__)

#: What bypasses our database backend finds no tenant's table, and no temporary table in the place of a real one.
ROLE_DEFAULTS = {
    "search_path": "pg_catalog, pg_temp",
    "default_transaction_isolation": "read committed",
}
IDLE_GUARD = "idle_in_transaction_session_timeout"
#: The exit code of a process that ends here. gunicorn stops at this one; at another it starts the next worker.
EXIT_CODE = 3
#: Seconds; the longest pause between two looks for a database that is away.
MAX_PAUSE = 10.0
# The advisory lock under which they are written: two ALTER ROLE at once would fail.
ROLE_LOCK = 0x7E4D

CURRENT = "SELECT pg_catalog.current_database(), SESSION_USER"
LOCK = "SELECT pg_catalog.pg_advisory_xact_lock(%s, 0)"
# What each setting was when the session began: no SET changes it.
EFFECTIVE = "SELECT pg_catalog.json_object_agg(name, reset_val) FROM pg_catalog.pg_settings WHERE name = ANY(%s)"


def role_defaults() -> dict[str, str]:
    """Each default, as `pg_settings` shows it, in its base unit. The server's keepalives are those of our side."""
    ours = settings.DATABASES["default"]["OPTIONS"]
    return {
        **ROLE_DEFAULTS,
        # psycopg reads times by the session's zone, Django writes its own beside them: they have to be the same.
        "TimeZone": connection.timezone_name,
        IDLE_GUARD: str(settings.IDLE_IN_TRANSACTION_MILLISECONDS),
        "tcp_keepalives_idle": str(ours["keepalives_idle"]),
        "tcp_keepalives_interval": str(ours["keepalives_interval"]),
        "tcp_keepalives_count": str(ours["keepalives_count"]),
        "tcp_user_timeout": str(ours["tcp_user_timeout"]),
    }


def write_role_defaults() -> None:
    """Write them on this session's role. Sessions that begin afterwards have them. Safe to repeat and to overlap."""
    defaults = {name: value.split(", ") for name, value in role_defaults().items()}
    changes = [f"SET {name} = {', '.join(['%s'] * len(items))}" for name, items in defaults.items()]
    _alter_role(changes, [item for items in defaults.values() for item in items])


def remove_role_defaults() -> None:
    """Undo that. Other settings of the role stay."""
    _alter_role([f"RESET {name}" for name in role_defaults()], [])


def effective_defaults() -> dict[str, str]:
    """What this session has of them."""
    [found] = fetch_one(EFFECTIVE, [list(role_defaults())])
    return dict(found)


def wrong_defaults() -> dict[str, str]:
    """Those that this session lacks, with what it has in their place.

    An idle guard of another length is not wrong, as long as there is one: after a release with other limits, a process
    of the release before may have to start again.
    """
    expected, found = role_defaults(), effective_defaults()
    wrong = {name: value for name, value in found.items() if value != expected[name]}
    if found[IDLE_GUARD] != "0":
        wrong.pop(IDLE_GUARD, None)
    return wrong


def verify_role() -> None:
    """For a process's start: return when its database sessions have the defaults. Waits while the database is away.

    Raises SystemExit, after one line in the log, if they lack any, or if no session is safe behind this pooler.
    """
    pause = 0.5
    while not _is_verified():
        time.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE)


def verify_role_when_there() -> None:
    """As `verify_role`, without waiting: if the database is away, this process's first connection is verified.

    For web, which answers `/livez` meanwhile. No statement of a request runs before; the process ends instead.
    """
    if not _is_verified():
        connection_created.connect(_verify_connection, dispatch_uid="tenants.verify_connection")


def _is_verified() -> bool:
    """False if the database is away."""
    try:
        complaint = _complaint()
    except (InterfaceError, OperationalError) as error:
        logger.warning("Waiting for the database, to verify the role's defaults: %s", " ".join(str(error).split()))
        return False
    finally:
        # A worker's children must not inherit it.
        connection.close()
    if complaint:
        logger.critical(complaint)
        raise SystemExit(EXIT_CODE)
    return True


def _verify_connection(**kwargs: Any) -> None:
    if complaint := _complaint():
        logger.critical(complaint)
        # This may be any thread, which a SystemExit alone would end.
        os._exit(EXIT_CODE)
    connection_created.disconnect(dispatch_uid="tenants.verify_connection")


def _complaint() -> str | None:
    return find_pooler_fault() or _lack_of_defaults()


def _lack_of_defaults() -> str | None:
    wrong = wrong_defaults()
    if not wrong:
        return None
    database, role = fetch_one(CURRENT, [])
    expected = role_defaults()
    lacks = "; ".join(f"{name} is {value!r}, not {expected[name]!r}" for name, value in sorted(wrong.items()))
    return (
        f"Sessions of the role {role} in the database {database} lack their defaults: {lacks}. "
        "Run the release step, `python manage.py migrate_tenants`; behind a pooler, then let it reconnect."
    )


def _alter_role(changes: Sequence[str], parameters: Sequence[str]) -> None:
    """All of the changes, or none: several statements in one message are one transaction."""
    database, _ = fetch_one(CURRENT, [])
    role = f"ROLE CURRENT_USER IN DATABASE {connection.ops.quote_name(database)}"
    # If the login has a setting `role`, CURRENT_USER is that role, whose defaults the login's sessions don't have.
    statements = ["SET LOCAL ROLE NONE", LOCK, *(f"ALTER {role} {change}" for change in changes)]
    execute("; ".join(statements), [ROLE_LOCK, *parameters])
