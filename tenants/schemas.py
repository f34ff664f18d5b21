"""What a schema lacks of what the code expects, and making it complete.

An *entry* is a text that names one thing that a complete schema has: `migration|app|name`, `type|app|model` (a content
type) or `permission|app|model|codename`.
"""

import pkgutil
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import chain

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_permission_codename
from django.core.management import call_command
from django.db import ProgrammingError
from django.db.models import Model
from django_tenants.utils import quote_schema_name, schema_context
from psycopg.errors import InvalidSchemaName, UndefinedTable

from tenants.connection import connection
from tenants.postgresql.internals import untranslated_verbose_name

Entries = frozenset[str]

# The first half of the advisory lock under which a schema is migrated. The second half is the schema's.
MIGRATION_LOCK = 0x7E4B
# Schemas in one statement. The statement locks some ten tables and indexes of each; PostgreSQL has room for a few
# thousand.
BATCH = 200
BOOKKEEPING_TABLES = ["django_migrations", "django_content_type", "auth_permission"]
SCHEMAS_WITH_TABLES = """
    SELECT nspname FROM pg_catalog.pg_namespace
    WHERE nspname = ANY(%s)
        AND (SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = pg_namespace.oid AND relname = ANY(%s)) = %s
"""
MISSING_FROM_SCHEMA = """
    SELECT %s, ARRAY(TABLE expected EXCEPT (
        SELECT concat_ws('|', 'migration', app, name) FROM {schema}.django_migrations
        UNION ALL SELECT concat_ws('|', 'type', app_label, model) FROM {schema}.django_content_type
        UNION ALL SELECT concat_ws('|', 'permission', app_label, model, codename)
            FROM {schema}.auth_permission JOIN {schema}.django_content_type kind ON kind.id = content_type_id
    ))
"""


@cache
def expected() -> Entries:
    """The entries of every complete schema.

    Django makes content types and permissions after the last migration. They count, because a process may have died in
    between.
    """
    return frozenset(chain.from_iterable(_expected_of(app) for app in apps.get_app_configs()))


def _expected_of(app: AppConfig) -> Iterator[str]:
    for name in _migration_names(app):
        yield f"migration|{app.label}|{name}"
    for content_type in content_types(app):
        yield f"type|{content_type}"
    for permission in permissions(app):
        yield f"permission|{permission}"


def _migration_names(app: AppConfig) -> Iterator[str]:
    """The names by their files. Importing the migrations takes longer than asking hundreds of schemas."""
    module = settings.MIGRATION_MODULES.get(app.label, f"{app.name}.migrations")
    package = module and find_spec(module)
    # Django, too, takes no migrations from a module or from a namespace package.
    if not (package and package.origin and package.submodule_search_locations):
        return
    for file in pkgutil.iter_modules(package.submodule_search_locations):
        is_migration = not file.ispkg and file.name[0] not in "_~"
        if is_migration:
            yield file.name


def content_types(app: AppConfig) -> list[str]:
    """`app|model` of each of the app's models."""
    return [f"{app.label}|{model._meta.model_name}" for model in _models(app)]


def permissions(app: AppConfig) -> dict[str, str]:
    """The names of the app's permissions, by `app|model|codename`."""
    return {
        f"{app.label}|{model._meta.model_name}|{codename}": str(name)
        for model in _models(app)
        for codename, name in _permissions_of(model)
    }


def _permissions_of(model: type[Model]) -> Iterator[tuple[str, str]]:
    options = model._meta
    for action in options.default_permissions:
        yield get_permission_codename(action, options), f"Can {action} {untranslated_verbose_name(model)}"
    yield from options.permissions


def _models(app: AppConfig) -> list[type[Model]]:
    return list(app.get_models()) if app.models_module else []


def columns_of(entries: Collection[str], kind: str) -> list[list[str]]:
    """The entries of one kind (`migration`, `type` or `permission`), sorted and split at the bars, without the kind."""
    split = sorted(entry.split("|") for entry in entries)
    return [columns for first, *columns in split if first == kind]


def find_missing(schemas: Collection[str]) -> dict[str, Entries]:
    """What each of these schemas lacks of `expected()`. A schema that lacks nothing is left out.

    No schema is asked for a content type or permission that `public` lacks, too: no migration knows its model.
    """
    present = _schemas_with_tables(["public", *schemas])
    missing = dict.fromkeys(schemas, expected())
    for start in range(0, len(present), BATCH):
        missing |= _missing_from(present[start : start + BATCH])

    missing_from_public = missing.get("public", frozenset())
    unmigrated = {entry for entry in missing_from_public if not entry.startswith("migration|")}
    found = {}
    for schema in schemas:
        entries = missing[schema] if schema == "public" else missing[schema] - unmigrated
        if entries:
            found[schema] = entries
    return found


def _schemas_with_tables(schemas: Collection[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(SCHEMAS_WITH_TABLES, [list(schemas), BOOKKEEPING_TABLES, len(BOOKKEEPING_TABLES)])
        return [name for (name,) in cursor.fetchall()]


def _missing_from(schemas: Sequence[str]) -> dict[str, Entries]:
    selects = " UNION ALL ".join(MISSING_FROM_SCHEMA.format(schema=quote_schema_name(schema)) for schema in schemas)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"WITH expected AS (SELECT unnest(%s::text[])) {selects}", [list(expected()), *schemas])
            return {schema: frozenset(entries) for schema, entries in cursor.fetchall()}
    except ProgrammingError as error:
        if not isinstance(error.__cause__, UndefinedTable | InvalidSchemaName):
            raise
    # A schema was dropped or renamed since it was found. Ask the others again.
    left = _schemas_with_tables(schemas)
    return _missing_from(left) if left else {}


def make_schema(schema_name: str) -> None:
    """Create the schema if it is missing, and bring its tables up to date. Safe to repeat and to overlap.

    Call it outside of a transaction, because migrations commit as they go. It closes the connection.
    """
    lock_schema(schema_name)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_schema_name(schema_name)}")
    migrate_schema(schema_name)


def migrate_schema(schema_name: str) -> None:
    """Bring the tables of an existing schema up to date; `public` is one, too. Otherwise as `make_schema`."""
    lock_schema(schema_name)
    which = {"shared": True} if schema_name == "public" else {"tenant": True, "schema_name": schema_name}
    try:
        with schema_context("public"):  # the command leaves it where it likes
            call_command("migrate_schemas", **which, interactive=False, verbosity=0)
    finally:
        connection.close()


def lock_schema(schema_name: str) -> None:
    """Wait until nobody else migrates the schema, and keep others out until this session ends.

    The session ends when the migrations close it, or when the process dies. Raises OperationalError after the session's
    `lock_timeout`.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [MIGRATION_LOCK, schema_name])
