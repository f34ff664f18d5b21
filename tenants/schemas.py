"""What a schema lacks of what the code expects, and making up for it."""

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
from django_tenants.utils import quote_schema_name
from psycopg.errors import InvalidSchemaName, UndefinedTable

from tenants.connection import connection

# The first half of the advisory lock under which a schema is migrated; the second is the schema's.
MIGRATION_LOCK = 0x7E4B
# Schemas in one statement. It locks some ten tables and indexes of each, and PostgreSQL has room for a few thousand.
BATCH = 200
TABLES = ["django_migrations", "django_content_type", "auth_permission"]
WITH_TABLES = """
    SELECT nspname FROM pg_catalog.pg_namespace
    WHERE nspname = ANY(%s)
        AND (SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = pg_namespace.oid AND relname = ANY(%s)) = %s
"""
MISSING = """
    SELECT %s, ARRAY(TABLE expected EXCEPT (
        SELECT concat_ws('|', 'migration', app, name) FROM {schema}.django_migrations
        UNION ALL SELECT concat_ws('|', 'type', app_label, model) FROM {schema}.django_content_type
        UNION ALL SELECT concat_ws('|', 'permission', app_label, model, codename)
            FROM {schema}.auth_permission JOIN {schema}.django_content_type kind ON kind.id = content_type_id
    ))
"""


@cache
def expected() -> frozenset[str]:
    """What every migrated schema has: migrations, and the content types and permissions that Django makes after them.

    Content types and permissions count because a process may have died between the last migration and them.
    """
    return frozenset(chain.from_iterable(map(_expected_of, apps.get_app_configs())))


def _expected_of(app: AppConfig) -> Iterator[str]:
    for name in _migration_names(app):
        yield f"migration|{app.label}|{name}"
    for kind in content_types(app):
        yield f"type|{kind}"
    for permission in permissions(app):
        yield f"permission|{permission}"


def _migration_names(app: AppConfig) -> Iterator[str]:
    """By the names of files: importing them all would take longer than looking for what hundreds of schemas lack."""
    module = settings.MIGRATION_MODULES.get(app.label, f"{app.name}.migrations")
    package = module and find_spec(module)
    # As Django has it: neither a module nor a namespace package holds migrations.
    if package and package.origin and package.submodule_search_locations:
        for file in pkgutil.iter_modules(package.submodule_search_locations):
            if not file.ispkg and file.name[0] not in "_~":
                yield file.name


def content_types(app: AppConfig) -> list[str]:
    """`app|model` of each model."""
    return [f"{app.label}|{model._meta.model_name}" for model in _models(app)]


def permissions(app: AppConfig) -> dict[str, str]:
    """The name of each permission by `app|model|codename`."""
    return {
        f"{app.label}|{model._meta.model_name}|{codename}": str(name)
        for model in _models(app)
        for codename, name in _permissions_of(model)
    }


def _permissions_of(model: type[Model]) -> Iterator[tuple[str, str]]:
    options = model._meta
    for action in options.default_permissions:
        yield get_permission_codename(action, options), f"Can {action} {options.verbose_name_raw}"
    yield from options.permissions


def _models(app: AppConfig) -> list[type[Model]]:
    return list(app.get_models()) if app.models_module else []


def lacks(schemas: Collection[str]) -> dict[str, frozenset[str]]:
    """What each of these schemas lacks of `expected()`; only those that lack something are in it.

    A content type or permission that `public` lacks is asked of no other: it is of a model that no migration knows.
    """
    there = _with_tables(["public", *schemas])
    missing = dict.fromkeys(schemas, expected())
    for start in range(0, len(there), BATCH):
        missing |= _missing(there[start : start + BATCH])
    unknown = {entry for entry in missing.get("public", ()) if not entry.startswith("migration|")}
    asked = {schema: missing[schema] - (unknown if schema != "public" else set()) for schema in schemas}
    return {schema: lack for schema, lack in asked.items() if lack}


def _with_tables(schemas: Collection[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(WITH_TABLES, [list(schemas), TABLES, len(TABLES)])
        return [name for (name,) in cursor.fetchall()]


def _missing(schemas: Sequence[str]) -> dict[str, frozenset[str]]:
    selects = " UNION ALL ".join(MISSING.format(schema=quote_schema_name(schema)) for schema in schemas)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"WITH expected AS (SELECT unnest(%s::text[])) {selects}", [list(expected()), *schemas])
            return {schema: frozenset(lack) for schema, lack in cursor.fetchall()}
    except ProgrammingError as error:
        if not isinstance(error.__cause__, UndefinedTable | InvalidSchemaName):
            raise
    # One was dropped, or renamed, since it was found; the others count.
    left = _with_tables(schemas)
    return _missing(left) if left else {}


def make_schema(schema_name: str) -> None:
    """Create the schema if it is missing, and bring its tables up to date. Safe to repeat and to overlap.

    Not inside a transaction: migrations commit as they go.
    """
    lock_schema(schema_name)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_schema_name(schema_name)}")
    migrate_schema(schema_name)


def migrate_schema(schema_name: str) -> None:
    """Bring the tables of a schema that exists, `public` too, up to date. As `make_schema` otherwise."""
    lock_schema(schema_name)
    which = {"shared": True} if schema_name == "public" else {"tenant": True, "schema_name": schema_name}
    try:
        call_command("migrate_schemas", **which, interactive=False, verbosity=0)
    finally:
        connection.close()
        connection.set_schema_to_public()


def lock_schema(schema_name: str) -> None:
    """Let nobody else migrate the schema until this session ends: when the migrations close it, or the process dies."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [MIGRATION_LOCK, schema_name])
