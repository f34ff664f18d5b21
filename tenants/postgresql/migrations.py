"""Undocumented parts of Django's migrations that the product uses.

tests/tenants/test_private_api.py fails when one of them goes away.
"""

from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.commands.migrate import Command
from django.db import connection
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.dispatch import Signal


def load_migrations() -> dict[tuple[str, str], Migration]:
    """All migrations of the installed apps, by app and name. Imports each of them, and asks no database."""
    migrations: dict[tuple[str, str], Migration] = MigrationLoader(None).disk_migrations
    return migrations


def has_receivers(signal: Signal) -> bool:
    """Whether anything is connected to the signal."""
    return bool(signal.has_listeners())


def compose_sql(statement: str, parameters: Sequence[Any]) -> str:
    """The statement with its parameters as literals, as the schema editor writes them."""
    operations: Any = connection.ops  # the stubs know the operations of no database
    composed: str = operations.compose_sql(statement, parameters)
    return composed


class ObservedMigrate(Command):
    """Django's `migrate`, which tells `note_progress` what it does.

    `note_progress` gets a migration when that begins to be applied, and None when any other step begins or ends.
    """

    def __init__(self, note_progress: Callable[[Migration | None], None]) -> None:
        super().__init__()
        self.note_progress = note_progress

    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:
        """Called by Django's MigrationExecutor at each step."""
        self.note_progress(migration if action == "apply_start" else None)
