"""The recording of migrations: one schema is migrated for real, and its SQL becomes a script for the others.

A recording counts only if nothing in it can differ between two schemas. tenants/replay.py checks that all operations
are known to be SQL. The recorder checks that they read nothing, and that it understands all that Django did besides, to
the last row. tenants/upgrade.py checks that two schemas gave the same script.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.db.migrations import Migration
from django_tenants.utils import schema_context

from tenants.connection import connection
from tenants.postgresql.migrations import ObservedMigrate, compose_sql
from tenants.replay import LOCK_TIMEOUT, set_lock_timeout
from tenants.schemas import MIGRATION_LOCK, columns_of, lock_schema, permissions

# What a migration may send
CHANGE = re.compile(r"\s*(?:CREATE|ALTER|DROP|COMMENT|INSERT|UPDATE|DELETE|SET\s+CONSTRAINTS)\b", re.IGNORECASE)
# What it may not: statements that end the transaction or can't run in one, and questions about the schema.
UNFIT = re.compile(
    r"\b(?:BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|CONCURRENTLY|search_path|current_schemas?)\b",
    re.IGNORECASE,
)
# What Django may send between and after the migrations, and the tables that it may name there
BOOKKEEPING = re.compile(r"(?:SHOW|SET) search_path|SELECT|INSERT")
BOOKKEEPING_TABLES = {"django_migrations", "django_content_type", "auth_permission", "pg_catalog", "UNNEST"}
TABLE = re.compile(r'\b(?:FROM|JOIN|INTO)\s+"?(\w+)')

BEGIN = f"""
BEGIN;
SET LOCAL lock_timeout = '{LOCK_TIMEOUT}';
SELECT pg_advisory_xact_lock({MIGRATION_LOCK}, hashtext(current_schema()))"""
# Raises if somebody has applied the migration since we looked.
UNAPPLIED = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM django_migrations WHERE (app, name) = (%s, %s)) THEN
        RAISE EXCEPTION 'migration_already_applied';
    END IF;
END
$$"""
APPLIED = "INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, clock_timestamp())"
ADD_TYPES = "INSERT INTO django_content_type (app_label, model) SELECT * FROM unnest(%s::text[], %s::text[])"
ADD_PERMISSIONS = """
INSERT INTO auth_permission (name, content_type_id, codename)
SELECT new.name, kind.id, new.codename
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS new (app_label, model, codename, name)
JOIN django_content_type kind USING (app_label, model)"""


def record(schema: str, missing: Collection[str]) -> str | None:
    """Migrate a schema for real. Returns a script for others that lack the same entries, or None if there can be none.

    Call it outside of a transaction. It closes the connection.
    """
    set_lock_timeout()
    lock_schema(schema)
    recorder = Recorder()
    try:
        with schema_context(schema), connection.execute_wrapper(recorder.watch):
            call_command(ObservedMigrate(recorder.note_progress), interactive=False, verbosity=0)
    finally:
        connection.close()
    return recorder.script(schema, missing)


class Recorder:
    """The statements of each migration, and whether everything that Django sent is understood."""

    def __init__(self) -> None:
        self.understood = True
        #: By app and name of the migration, in the order in which they were applied
        self.statements: dict[tuple[str, str], list[str]] = {}
        #: Rows that Django inserted between and after the migrations, by table
        self.inserted: Counter[str] = Counter()
        self._current: list[str] | None = None

    def note_progress(self, migration: Migration | None) -> None:
        """For `ObservedMigrate`: a migration begins to be applied, or something else happens."""
        if migration is None:
            self._current = None
        else:
            self._current = self.statements[migration.app_label, migration.name] = []

    def watch(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        """An execute wrapper (see Django's database instrumentation)."""
        result = execute(sql, params, many, context)
        if self._current is None:
            self._note_bookkeeping(sql, context["cursor"])
        elif params is None:
            # The schema editor sends no parameters. The ORM and introspection do.
            self._current.append(sql)
            self._require(CHANGE.match(sql) and not UNFIT.search(sql))
        else:
            self._require(sql.startswith('INSERT INTO "django_migrations"'))
        return result

    def _note_bookkeeping(self, sql: str, cursor: Any) -> None:
        tables = TABLE.findall(sql)
        self._require(BOOKKEEPING.match(sql.lstrip()) and BOOKKEEPING_TABLES.issuperset(tables))
        if sql.startswith("INSERT"):
            self.inserted[tables[0]] += cursor.rowcount

    def _require(self, condition: object) -> None:
        if not condition:
            self.understood = False

    def script(self, schema: str, missing: Collection[str]) -> str | None:
        """SQL that makes these entries in another schema that lacks them, or None if something is not understood."""
        script = "".join(_applying(migration, statements) for migration, statements in self.statements.items())
        applied = sorted([app, name] for app, name in self.statements)
        bookkeeping = Counter(
            {
                "django_content_type": len(columns_of(missing, "type")),
                "auth_permission": len(columns_of(missing, "permission")),
            }
        )
        if not self.understood:
            return None
        if applied != columns_of(missing, "migration") or self.inserted != bookkeeping:
            return None
        if schema in script:
            return None
        return script + _following(missing)


def _applying(migration: tuple[str, str], statements: list[str]) -> str:
    """A transaction for one migration, as with Django. A later migration may need the triggers of an earlier one."""
    return _transaction([compose_sql(UNAPPLIED, migration), *statements, compose_sql(APPLIED, migration)])


def _following(missing: Collection[str]) -> str:
    """A transaction for the content types and permissions that Django makes after the migrations, or ""."""
    statements = []
    if types := columns_of(missing, "type"):
        statements.append(compose_sql(ADD_TYPES, _transposed(types)))
    if named := _named_permissions(missing):
        statements.append(compose_sql(ADD_PERMISSIONS, _transposed(named)))
    return _transaction(statements) if statements else ""


def _named_permissions(missing: Collection[str]) -> list[list[str]]:
    names: dict[str, str] = {}
    for app in apps.get_app_configs():
        names |= permissions(app)
    return [[*columns, names["|".join(columns)]] for columns in columns_of(missing, "permission")]


def _transposed(rows: list[list[str]]) -> list[list[str]]:
    """An array for each column, as `unnest` takes them."""
    return [list(column) for column in zip(*rows, strict=True)]


def _transaction(statements: Iterable[str]) -> str:
    # A semicolon stands on a line of its own, because the statement before it may end in a comment.
    return "\n;\n".join([BEGIN, *statements, "COMMIT", ""])
