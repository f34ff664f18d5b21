"""Options of Django, psycopg and django-tenants that would break a promise, or would have no effect.

System checks find them, and so does each new connection, because gunicorn runs no checks.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from operator import not_
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from psycopg import IsolationLevel

#: The name of our backend in DATABASES
ENGINE = "tenants.postgresql"
# How the names of tenants' schemas, and of spares, end
TENANTS_SCHEMA = re.compile(r"_[0-9a-f]{12}\Z")


class Option(NamedTuple):
    """An option that is refused: the check that names it, why, what to do instead, and the values that do no harm."""

    id: str
    name: str
    why: str
    remedy: str
    is_harmless: Callable[[Any], bool] = not_


class Refusal(NamedTuple):
    """An option that was found: what a check shows, or an error."""

    id: str
    message: str
    remedy: str


def _are_extra_paths(paths: Any) -> bool:
    return isinstance(paths, list | tuple) and not any(
        name == "public" or name.startswith(("pg_", "$")) or TENANTS_SCHEMA.search(name) for name in paths
    )


# In OPTIONS of the database
OPTIONS = (
    Option(
        "tenants.E001",
        "isolation_level",
        "The statements of jobs rely on READ COMMITTED, so each session has it.",
        "Remove it. A transaction that needs more begins with SET TRANSACTION ISOLATION LEVEL.",
        lambda value: value in (None, IsolationLevel.READ_COMMITTED),
    ),
    Option(
        "tenants.E002",
        "pool",
        "A pool hands a session to another thread, past the cleaning between two owners.",
        "Remove it. For fewer connections, run PgBouncer.",
    ),
    Option(
        "tenants.E003",
        "server_side_binding",
        "A statement shares a message with its search path, which only binding on the client allows.",
        "Remove it. For a statement of your own, use a psycopg.Cursor in a transaction.",
    ),
    Option(
        "tenants.E004",
        "prepare_threshold",
        "Values are bound on the client, so nothing would be prepared.",
        "Remove it. For a statement of your own, call execute(…, prepare=True) of a psycopg.Cursor.",
        lambda value: value is None,
    ),
    Option(
        "tenants.E005",
        "assume_role",
        "Each owner of a session resets the role that was set after connecting.",
        "Remove it, and give the login the role: ALTER ROLE login SET role = 'the role'.",
    ),
    Option(
        "tenants.E006",
        "cursor_factory",
        "Only Tenantry's own cursors send the search path with each statement.",
        "Remove it. Make cursors of another class where they are needed.",
        lambda value: value is None,
    ),
    Option(
        "tenants.E007",
        "row_factory",
        "Django and Tenantry read rows as tuples.",
        "Remove it, and name it where it is needed: connection.connection.cursor(row_factory=…).",
        lambda value: value is None,
    ),
    Option(
        "tenants.E008",
        "context",
        "Django puts adapters of its own in its place.",
        "Remove it, and register adapters in a receiver of django.db.backends.signals.connection_created.",
        lambda value: value is None,
    ),
    Option(
        "tenants.E009",
        "autocommit",
        "Only atomic() begins transactions.",
        "Remove it.",
        lambda value: value is True,
    ),
    Option(
        "tenants.E010",
        "client_encoding",
        "Django always uses UTF-8.",
        "Remove it.",
        lambda value: str(value).upper() in ("UTF8", "UTF-8"),
    ),
)
# In OPTIONS of a database that is reached through a pooler
POOLED_OPTIONS = (
    Option(
        "tenants.E011",
        "options",
        "A pooler refuses this startup parameter, or drops it.",
        "Remove it, and write the settings on the role: ALTER ROLE … SET.",
    ),
)
# Keys of the database
KEYS = (
    Option(
        "tenants.E012",
        "AUTOCOMMIT",
        "Without it nothing commits what services write, and the next owner of the session rolls it back.",
        "Remove it.",
        bool,
    ),
)
# Django's settings
SETTINGS = (
    Option(
        "tenants.E015",
        "PG_EXTRA_SEARCH_PATHS",
        "A tenant's statement would find tables of the platform or of another tenant, or the wrong function.",
        "List schemas of extensions only: not public, no tenant's, none that PostgreSQL names.",
        _are_extra_paths,
    ),
    Option(
        "tenants.E016",
        "PUBLIC_SCHEMA_NAME",
        "The platform's tables are in public: statements name it.",
        "Remove it.",
        lambda value: value == "public",
    ),
    Option(
        "tenants.E017",
        "TENANT_DB_ALIAS",
        "Tenants live in the database 'default': only its sessions are cleaned between two owners.",
        "Remove it.",
        lambda value: value == DEFAULT_DB_ALIAS,
    ),
    Option(
        "tenants.E018",
        "ORIGINAL_BACKEND",
        "What another backend does when it connects would be left out.",
        "Remove it.",
        lambda value: value == "django.db.backends.postgresql",
    ),
    Option(
        "tenants.E019",
        "EXTRA_SET_TENANT_METHOD_PATH",
        "A tenant belongs to a context, not to a connection: what was set for it would meet another tenant.",
        "Remove it, and read connection.tenant where it is needed.",
    ),
    *(
        Option(
            "tenants.E020",
            name,
            "All tenants have the same tables.",
            "Remove it.",
        )
        for name in ("HAS_MULTI_TYPE_TENANTS", "TENANT_TYPES")
    ),
    Option(
        "tenants.E021",
        "TENANT_LIMIT_SET_CALLS",
        "No session remembers a search path: each message carries its own, at no further round trip.",
        "Remove it.",
    ),
    Option(
        "tenants.E022",
        "TENANT_SUBFOLDER_PREFIX",
        "Only the host names a tenant.",
        "Remove it.",
    ),
    *(
        Option(
            "tenants.E023",
            name,
            "A host without a tenant gets a 404, and no view runs.",
            "Remove it. Hosts in PUBLIC_HOSTS are served in public.",
        )
        for name in ("SHOW_PUBLIC_IF_NO_TENANT_FOUND", "DEFAULT_NOT_FOUND_TENANT_VIEW")
    ),
    *(
        Option(
            "tenants.E024",
            name,
            "No schema is cloned: sign-ups take spare schemas, which are migrated.",
            "Remove it. SPARE_SCHEMAS says how many wait.",
        )
        for name in ("TENANT_CREATION_FAKES_MIGRATIONS", "TENANT_BASE_SCHEMA")
    ),
    Option(
        "tenants.E025",
        "TENANT_MIGRATION_ORDER",
        "The release step migrates tenants in an order of its own, several at once.",
        "Remove it.",
    ),
    *(
        Option(
            "tenants.E026",
            name,
            "The release step replays migrations without it.",
            "Remove it. A receiver of django_tenants.signals.schema_migrated is called for each schema.",
        )
        for name in ("TENANT_BASE_MIGRATE_COMMAND", "GET_EXECUTOR_FUNCTION")
    ),
    Option(
        "tenants.E028",
        "SCHEMAS_AT_A_TIME",
        "No sign-up would ever get its schema.",
        "Set it to 1 or more.",
        lambda value: value >= 1,
    ),
)


def find_refused(alias: str, database: Mapping[str, Any]) -> Iterator[Refusal]:
    """What is refused of a database that our backend connects to."""
    where = f"DATABASES[{alias!r}]"
    if alias != DEFAULT_DB_ALIAS:
        yield Refusal(
            "tenants.E014",
            f"{where} has the ENGINE {ENGINE}. Only the sessions of 'default' are cleaned between two owners.",
            "Remove it, or give it Django's own backend; no tenant is bound there.",
        )
    yield from _refused(KEYS, database, where)
    options = database.get("OPTIONS", {})
    yield from _refused(OPTIONS, options, f"{where}['OPTIONS']")
    if "DIRECT" in database:
        yield from _refused(POOLED_OPTIONS, options, f"{where}['OPTIONS']")
        if not database.get("DISABLE_SERVER_SIDE_CURSORS"):
            yield Refusal(
                "tenants.E027",
                f"{where} has server-side cursors, and DIRECT: behind a pooler in transaction mode, .iterator() would "
                "ask for its rows in another session than its cursor's.",
                "Set DISABLE_SERVER_SIDE_CURSORS to True.",
            )


def find_refused_settings() -> Iterator[Refusal]:
    """What is refused of Django's settings."""
    present = {option.name: getattr(settings, option.name) for option in SETTINGS if hasattr(settings, option.name)}
    yield from _refused(SETTINGS, present, "The settings")


def refuse(alias: str, database: Mapping[str, Any]) -> None:
    """Raise ImproperlyConfigured for the first thing that is refused."""
    for refusal in (*find_refused(alias, database), *find_refused_settings()):
        raise ImproperlyConfigured(f"{refusal.message} {refusal.remedy} ({refusal.id})")


def _refused(options: tuple[Option, ...], present: Mapping[str, Any], where: str) -> Iterator[Refusal]:
    for option in options:
        if option.name in present and not option.is_harmless(present[option.name]):
            yield Refusal(option.id, f"{where}: {option.name} is refused. {option.why}", option.remedy)
