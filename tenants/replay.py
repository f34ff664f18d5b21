"""Migrations that are SQL alone, replayed: what may be, and the replay. tenants/recording.py makes the recording."""

from collections.abc import Collection, Iterable

from django.db.migrations import Migration
from django.db.migrations import operations as ops
from django.db.migrations.operations.base import Operation
from django_tenants.signals import schema_migrated, schema_pre_migration
from django_tenants.utils import schema_context

from tenants.connection import connection
from tenants.postgresql.migrations import has_receivers, load_migrations
from tenants.schemas import columns_of

# Short, because whoever wants the same table later queues up behind a migration that waits for it.
LOCK_TIMEOUT = "200ms"

# Operations that run nothing but SQL. Compared by their very class, because a subclass may do anything. RenameModel is
# missing, because Django renames its content type by Python.
# fmt: off
PURE = {
    ops.CreateModel, ops.DeleteModel, ops.AlterModelTable, ops.AlterModelTableComment, ops.AlterModelOptions,
    ops.AlterModelManagers, ops.AlterOrderWithRespectTo, ops.AlterUniqueTogether, ops.AlterIndexTogether,
    ops.AddField, ops.RemoveField, ops.AlterField, ops.RenameField, ops.AddIndex, ops.RemoveIndex, ops.RenameIndex,
    ops.AddConstraint, ops.RemoveConstraint, ops.AlterConstraint, ops.RunSQL,
}
# fmt: on


def is_replayable(missing: Collection[str]) -> bool:
    """Whether these entries (see tenants/schemas.py) may be made by a replay.

    They may, if they hold migrations, all of them are atomic and of known operations, none replaces others, and nothing
    listens to django-tenants' signals about migrations.
    """
    migrations = _migrations(missing)
    if not migrations:
        return False
    if not all(_is_replayable(migration) for migration in migrations):
        return False
    return not has_receivers(schema_migrated) and not has_receivers(schema_pre_migration)


def _is_replayable(migration: Migration) -> bool:
    return migration.atomic and not migration.replaces and _are_pure(migration.operations)


def _are_pure(operations: Iterable[Operation]) -> bool:
    return all(_is_pure(operation) for operation in operations)


def _is_pure(operation: Operation) -> bool:
    if type(operation) is ops.SeparateDatabaseAndState:
        return _are_pure(operation.database_operations)
    return type(operation) in PURE


def is_atomic(missing: Collection[str]) -> bool:
    """Whether all migrations among these entries leave nothing behind when they fail, so that they may be repeated."""
    return all(migration.atomic for migration in _migrations(missing))


def _migrations(missing: Collection[str]) -> list[Migration]:
    migrations = load_migrations()
    return [migrations[app, name] for app, name in columns_of(missing, "migration")]


def set_lock_timeout() -> None:
    """Let this session wait LOCK_TIMEOUT for a lock. The migrations end the session."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def replay(script: str, schema: str) -> None:
    """Migrate a schema by a recording. Raises what the database raises, and leaves no migration half applied."""
    try:
        # The script holds several transactions: their search path is the session's.
        with schema_context(schema), connection.cursor() as cursor, cursor.connection.alone(cursor.cursor):
            cursor.execute(script)
    except BaseException:
        # The transaction ends with its session.
        connection.close()
        raise
