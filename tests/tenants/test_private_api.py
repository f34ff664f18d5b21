"""The undocumented parts of our libraries that product code leans on. A test here fails when one goes away.

It names the library with its version, and the module of ours that needs the hook.
"""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import psycopg
import pytest
from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.models import Permission
from django.core.management.commands.migrate import Command as Migrate
from django.db import connection as django_connection
from django.db import models, transaction
from django.db.backends import utils as django_utils
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql import base as django_postgresql
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import SeparateDatabaseAndState
from django.dispatch import Signal
from django.test.utils import isolate_apps
from django_tenants.postgresql_backend.base import DatabaseWrapper as TenantDatabaseWrapper
from django_tenants.utils import quote_schema_name, tenant_context

from accounts.models import User
from tenants.connection import connection
from tenants.models import Tenant
from tenants.postgresql.internals import is_broken, skip_health_check, untranslated_verbose_name
from tenants.postgresql.migrations import ObservedMigrate, compose_sql, has_receivers, load_migrations
from tests.wire import queries

DJANGO = f"Django {version('django')}"
DJANGO_TENANTS = f"django-tenants {version('django-tenants')}"
PSYCOPG = f"psycopg {version('psycopg')}"

POSTGRESQL = "tenants/postgresql/base.py"
MIGRATIONS = "tenants/postgresql/migrations.py"
REPLAY = "tenants/replay.py"

# The library, the class, its method, the parameters that we pass or take, and the module of ours that does so
METHODS = [
    (DJANGO, BaseDatabaseWrapper, "_commit", [], POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "_rollback", [], POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "_savepoint_rollback", ["sid"], POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "wrap_database_errors", None, POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "_set_autocommit", ["autocommit"], POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "get_new_connection", ["conn_params"], POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "create_cursor", ["name"], POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "is_usable", [], POSTGRESQL),
    (DJANGO, django_postgresql, "CursorMixin", None, POSTGRESQL),
    (DJANGO, django_postgresql, "ServerSideCursor", None, POSTGRESQL),
    (DJANGO, django_utils, "debug_transaction", ["connection", "sql"], POSTGRESQL),
    (DJANGO, transaction.Atomic(None, True, False), "_from_testcase", None, POSTGRESQL),
    (DJANGO, django_connection.ops, "compose_sql", ["sql", "params"], MIGRATIONS),
    (DJANGO, MigrationLoader, "__init__", ["connection"], MIGRATIONS),
    (DJANGO, Migrate, "migration_progress_callback", ["action", "migration", "fake"], MIGRATIONS),
    (DJANGO, Signal, "has_listeners", [], MIGRATIONS),
    (DJANGO, createsuperuser.Command, "username_is_unique", None, "accounts/management/commands/createsuperuser.py"),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "_handle_search_path", ["cursor"], POSTGRESQL),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "set_tenant", ["tenant"], "tenants/middleware.py"),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "set_schema", ["schema_name"], "tenants/schemas.py"),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "set_schema_to_public", [], "tenants/schemas.py"),
    (PSYCOPG, psycopg.Connection, "transaction", [], POSTGRESQL),
    (PSYCOPG, psycopg.ClientCursor, "mogrify", ["query", "params"], POSTGRESQL),
]


@pytest.mark.parametrize(("library", "owner", "name", "parameters", "user"), METHODS)
def test_a_hook_is_there(library: str, owner: Any, name: str, parameters: list[str] | None, user: str) -> None:
    place = getattr(owner, "__name__", type(owner).__name__)
    assert hasattr(owner, name), f"{library} has no {place}.{name} any more, which {user} needs"
    if parameters is None:
        return
    taken = inspect.signature(getattr(owner, name)).parameters
    for parameter in parameters:
        assert parameter in taken, f"{library}: {place}.{name} takes no {parameter!r} any more, which {user} gives it"


@pytest.mark.parametrize(
    ("library", "name", "value"),
    [
        (DJANGO, "in_atomic_block", False),
        (DJANGO, "needs_rollback", False),
        (DJANGO, "savepoint_ids", []),
        (DJANGO, "atomic_blocks", []),
        (DJANGO, "closed_in_transaction", False),
        (DJANGO, "health_check_done", True),
        (DJANGO, "autocommit", True),
        (DJANGO_TENANTS, "schema_name", "public"),
    ],
)
def test_a_connection_says_how_it_is(committed_db: None, library: str, name: str, value: object) -> None:
    connection.close()
    connection.ensure_connection()

    found = getattr(connection, name, "missing")

    assert found == value, f"{library}: connection.{name} is {found!r} after connecting, and {POSTGRESQL} reads it"


def test_a_connection_says_which_path_is_set(committed_db: None) -> None:
    connection.set_schema_to_public()
    assert connection.search_path_set_schemas is None, f"{DJANGO_TENANTS} keeps a search path that {POSTGRESQL} resets"


def test_a_connection_says_in_which_block_it_is(committed_db: None) -> None:
    with transaction.atomic():
        outer = list(connection.savepoint_ids)
        with transaction.atomic():
            inner = list(connection.savepoint_ids)
        assert connection.in_atomic_block, f"{DJANGO}: in_atomic_block is not set in atomic()"
    assert (len(outer), len(inner)) == (0, 1), f"{DJANGO}: savepoint_ids does not have the nested blocks any more"


def test_a_health_check_is_skipped(committed_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_HEALTH_CHECKS", True)
    connection.ensure_connection()
    connection.close_if_unusable_or_obsolete()  # as at the start of a request: the next statement has a check before it

    skip_health_check(connection)

    with queries() as sent, connection.shared_cursor() as cursor:
        cursor.execute("SELECT 1")
    assert sent == ["SELECT 1"], f"{DJANGO} looks at another attribute than health_check_done by now"


def test_a_lost_connection_is_known(committed_db: None) -> None:
    connection.ensure_connection()
    assert not is_broken(connection)

    connection.connection.close()

    assert is_broken(connection), f"{DJANGO}: is_usable() is true of a closed connection"
    connection.close()


def test_the_name_of_a_model_is_not_translated() -> None:
    name = untranslated_verbose_name(User)
    assert name == "user", f"{DJANGO}: _meta.verbose_name_raw is {name!r}"


def test_a_permission_has_the_name_that_we_expect(acme: Tenant) -> None:
    with tenant_context(acme):
        names = {permission.codename: permission.name for permission in Permission.objects.all()}
    expected = f"Can add {untranslated_verbose_name(User)}"
    assert names["add_user"] == expected, f"{DJANGO} names permissions in another way; see tenants/schemas.py"


# Migrations


def test_migrations_are_loaded_from_disk() -> None:
    migrations = load_migrations()
    migration = migrations["tenants", "0001_initial"]
    assert isinstance(migration, Migration), f"{DJANGO}: MigrationLoader.disk_migrations is not what it was"
    for name in ("app_label", "name", "operations", "atomic", "replaces"):
        assert hasattr(migration, name), f"{DJANGO}: a migration has no {name} any more, which {REPLAY} needs"


def test_an_operation_says_what_it_holds() -> None:
    operation = SeparateDatabaseAndState([], [])
    assert operation.database_operations == [], f"{DJANGO}: {REPLAY} looks into database_operations"


def test_parameters_become_literals(committed_db: None) -> None:
    composed = compose_sql("SELECT %s, %s::text[]", ["it's 100%", ["a", "b"]])
    expected = "SELECT 'it''s 100%', '{a,b}'::text[]"
    assert composed == expected, f"{DJANGO} with {PSYCOPG}: connection.ops.compose_sql() writes {composed!r}"


def test_a_signal_says_whether_it_has_receivers() -> None:
    signal = Signal()
    assert not has_receivers(signal)

    def receive(**kwargs: Any) -> None: ...

    signal.connect(receive)

    assert has_receivers(signal), f"{DJANGO}: Signal.has_listeners() does not know of a receiver"


def test_migrate_says_what_it_applies(committed_db: None) -> None:
    """Through Django's own executor, with a migration that does nothing."""
    noted: list[Migration | None] = []
    command: Any = ObservedMigrate(noted.append)
    executor = MigrationExecutor(connection, command.migration_progress_callback)
    nothing = type("Migration", (Migration,), {})("0000_nothing", "tenants")

    state = executor.loader.project_state()
    executor.apply_migration(state, nothing)
    executor.recorder.record_unapplied("tenants", "0000_nothing")

    assert noted == [nothing, None], f"{DJANGO}: migrate's progress is {noted}, and {MIGRATIONS} follows it"


@isolate_apps("tenants")
def test_the_schema_editor_sends_no_parameters(committed_db: None) -> None:
    """tenants/recording.py knows the SQL of a migration by that."""

    class Leaf(models.Model):
        class Meta:
            app_label = "tenants"

        def __str__(self) -> str:
            return ""

    sent: list[tuple[str, Any]] = []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        sent.append((sql, params))
        return execute(sql, params, many, context)

    with transaction.atomic(), connection.execute_wrapper(watch):
        with connection.schema_editor() as editor:
            editor.create_model(Leaf)
        transaction.set_rollback(True)

    created = [params for sql, params in sent if sql.startswith("CREATE TABLE")]
    assert created == [None], f"{DJANGO}: the schema editor sends {created}, and tenants/recording.py expects None"


def test_a_schemas_name_is_quoted() -> None:
    assert quote_schema_name('a"b') == '"a""b"', f"{DJANGO_TENANTS}: quote_schema_name() quotes in another way"
