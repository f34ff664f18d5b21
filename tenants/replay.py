"""Migrations that are SQL alone: recorded where they run for real, replayed elsewhere as one message.

A recording counts only if nothing in it can differ between two schemas: all operations are known to be SQL, they read
nothing, what Django did besides is understood to the last row, and two schemas gave the same statements.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import starmap
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.core.management.commands.migrate import Command as Migrate
from django.db.migrations import Migration
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django_tenants.signals import schema_migrated, schema_pre_migration

from tenants.connection import connection
from tenants.schemas import MIGRATION_LOCK, lock_schema, permissions

# Seconds would hold up whoever comes after us in the line for a table.
LOCK_TIMEOUT = "200ms"

# By their very class: a subclass may do anything. RenameModel is not here, since it renames a content type by Python.
# fmt: off
PURE = {
    ops.CreateModel, ops.DeleteModel, ops.AlterModelTable, ops.AlterModelTableComment, ops.AlterModelOptions,
    ops.AlterModelManagers, ops.AlterOrderWithRespectTo, ops.AlterUniqueTogether, ops.AlterIndexTogether,
    ops.AddField, ops.RemoveField, ops.AlterField, ops.RenameField, ops.AddIndex, ops.RemoveIndex, ops.RenameIndex,
    ops.AddConstraint, ops.RemoveConstraint, ops.AlterConstraint, ops.RunSQL,
}
# fmt: on
CHANGE = re.compile(r"\s*(?:CREATE|ALTER|DROP|COMMENT|INSERT|UPDATE|DELETE|SET\s+CONSTRAINTS)\b", re.IGNORECASE)
# What would end the transaction, can't run in one, or asks where it is.
UNFIT = re.compile(
    r"\b(?:BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|CONCURRENTLY|search_path|current_schemas?)\b",
    re.IGNORECASE,
)
BESIDES = re.compile(r"(?:SHOW|SET) search_path|SELECT|INSERT")
TABLE = re.compile(r'\b(?:FROM|JOIN|INTO)\s+"?(\w+)')
BOOKKEEPING = {"django_migrations", "django_content_type", "auth_permission", "pg_catalog", "UNNEST"}

BEGIN = f"""
BEGIN;
SET LOCAL lock_timeout = '{LOCK_TIMEOUT}';
SELECT pg_advisory_xact_lock({MIGRATION_LOCK}, hashtext(current_schema()))"""
# Raises on the server, by a division, if someone has applied the migration since we looked.
UNAPPLIED = "SELECT 1 / (count(*) = 0)::int FROM django_migrations WHERE (app, name) = (%s, %s)"
APPLIED = "INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, clock_timestamp())"
ADD_TYPES = "INSERT INTO django_content_type (app_label, model) SELECT * FROM unnest(%s::text[], %s::text[])"
ADD_PERMISSIONS = """
INSERT INTO auth_permission (name, content_type_id, codename)
SELECT new.name, kind.id, new.codename
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS new (app_label, model, codename, name)
JOIN django_content_type kind USING (app_label, model)"""


def is_replayable(lack: Collection[str]) -> bool:
    """Whether to try: whether all that is lacking are migrations of known operations, and what follows from them."""
    migrations = _migrations(lack)
    return (
        bool(migrations)
        and is_atomic(lack)
        and all(not migration.replaces and _are_pure(migration.operations) for migration in migrations)
        and not (schema_migrated.has_listeners() or schema_pre_migration.has_listeners())
    )


def is_atomic(lack: Collection[str]) -> bool:
    """Whether a migration that fails leaves nothing behind, so that it may be tried again."""
    return all(migration.atomic for migration in _migrations(lack))


def _migrations(lack: Collection[str]) -> list[Migration]:
    loader = MigrationLoader(None)
    return [loader.disk_migrations[app, name] for app, name in _rows(lack, "migration")]


def _are_pure(operations: Iterable[Operation]) -> bool:
    return all(
        _are_pure(operation.database_operations)
        if type(operation) is ops.SeparateDatabaseAndState
        else type(operation) in PURE
        for operation in operations
    )


def _rows(lack: Collection[str], kind: str) -> list[list[str]]:
    """Sorted; what is lacking of one kind, in columns."""
    return [row for first, *row in sorted(entry.split("|") for entry in lack) if first == kind]


def record(schema: str, lack: Collection[str]) -> str | None:
    """Migrate a schema for real; the SQL for others that lack the same, or None if that might be something else."""
    set_lock_timeout()
    lock_schema(schema)
    connection.set_schema(schema)
    recorder = Recorder()
    try:
        with connection.execute_wrapper(recorder.watch):
            call_command(recorder, interactive=False, verbosity=0)
    finally:
        connection.close()
        connection.set_schema_to_public()
    return recorder.script(schema, lack)


def set_lock_timeout() -> None:
    """For this session, which migrations end."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


class Recorder(Migrate):
    """Django's `migrate`, watched."""

    def __init__(self) -> None:
        super().__init__()
        self.applying = False
        self.statements: dict[tuple[str, str], list[str]] = {}
        self.inserted: Counter[str] = Counter()
        self.understood = True

    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:
        self.applying = action == "apply_start"
        if self.applying:
            self.statements[migration.app_label, migration.name] = []

    def watch(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if not self.applying:
            self.understood &= bool(BESIDES.match(sql.lstrip())) and BOOKKEEPING.issuperset(TABLE.findall(sql))
            if sql.startswith("INSERT"):
                self.inserted[TABLE.findall(sql)[0]] += context["cursor"].rowcount
        elif params is None:  # as the schema editor has it; the ORM and introspection send parameters
            [*_, statements] = self.statements.values()
            statements.append(sql)
            self.understood &= bool(CHANGE.match(sql)) and not UNFIT.search(sql)
        else:
            self.understood &= sql.startswith('INSERT INTO "django_migrations"')
        return result

    def script(self, schema: str, lack: Collection[str]) -> str | None:
        """What does the same to another schema that lacks the same; None if something is not understood."""
        follows = {
            "django_content_type": len(_rows(lack, "type")),
            "auth_permission": len(_rows(lack, "permission")),
        }
        script = "".join(starmap(_applying, self.statements.items()))
        if (
            self.understood
            and sorted(map(list, self.statements)) == _rows(lack, "migration")
            and self.inserted == Counter(follows)
            and schema not in script
        ):
            return script + _following(lack)
        return None


def _applying(migration: tuple[str, str], statements: list[str]) -> str:
    """A transaction for each migration, as Django has it: a later one may need the triggers of one before."""
    compose = connection.ops.compose_sql
    return _transaction([compose(UNAPPLIED, migration), *statements, compose(APPLIED, migration)])


def _following(lack: Collection[str]) -> str:
    """The content types and permissions that Django makes after the migrations."""
    names = {key: name for app in apps.get_app_configs() for key, name in permissions(app).items()}
    named = [[*row, names["|".join(row)]] for row in _rows(lack, "permission")]
    rows = {ADD_TYPES: _rows(lack, "type"), ADD_PERMISSIONS: named}
    # An array for each column.
    statements = [
        connection.ops.compose_sql(add, list(map(list, zip(*new, strict=True)))) for add, new in rows.items() if new
    ]
    return _transaction(statements) if statements else ""


def _transaction(statements: Iterable[str]) -> str:
    # The semicolons are on lines of their own, since a statement may end in a comment.
    return "\n;\n".join([BEGIN, *statements, "COMMIT", ""])


def replay(script: str, schema: str) -> None:
    """Migrate a schema by a recording. Raises what the database raises, and then leaves no migration half applied."""
    connection.set_schema(schema)
    try:
        with connection.cursor() as cursor:
            cursor.execute(script)
    except BaseException:
        connection.close()  # and with it the transaction
        raise
    finally:
        connection.set_schema_to_public()
