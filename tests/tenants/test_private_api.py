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
from django.contrib.contenttypes.models import ContentType, ContentTypeManager
from django.core.management.commands.migrate import Command as Migrate
from django.db import connection as django_connection
from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql import base as django_postgresql
from django.db.backends.postgresql import psycopg_any
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import SeparateDatabaseAndState
from django.dispatch import Signal
from django.test.utils import isolate_apps
from django_tenants.models import TenantMixin
from django_tenants.postgresql_backend import base as django_tenants_base
from django_tenants.postgresql_backend.base import DatabaseWrapper as TenantDatabaseWrapper
from django_tenants.utils import quote_schema_name, tenant_context

from accounts.models import User
from tenants.binding import content_types
from tenants.connection import connection
from tenants.models import Tenant
from tenants.postgresql.content_types import ContentTypesOfTenant
from tenants.postgresql.internals import is_broken, skip_health_check, untranslated_verbose_name
from tenants.postgresql.messages import OWNERS_TO_SET
from tenants.postgresql.migrations import ObservedMigrate, compose_sql, has_receivers, load_migrations
from tests.wire import queries

DJANGO = f"Django {version('django')}"
DJANGO_TENANTS = f"django-tenants {version('django-tenants')}"
PSYCOPG = f"psycopg {version('psycopg')}"

BLOCKS = "tenants/postgresql/blocks.py"
POSTGRESQL = "tenants/postgresql/base.py"
MESSAGES = "tenants/postgresql/messages.py"
MIGRATIONS = "tenants/postgresql/migrations.py"
REPLAY = "tenants/replay.py"

# The library, the class, its method, the parameters that we pass or take, and the module of ours that does so
METHODS = [
    (DJANGO, BaseDatabaseWrapper, "_commit", [], POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "_rollback", [], POSTGRESQL),
    (DJANGO, transaction.Atomic, "__exit__", ["exc_type", "exc_value", "traceback"], BLOCKS),
    (DJANGO_TENANTS, TenantMixin, "activate", [], BLOCKS),
    (DJANGO, BaseDatabaseWrapper, "_savepoint_rollback", ["sid"], POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "wrap_database_errors", None, POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "_set_autocommit", ["autocommit"], POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "get_new_connection", ["conn_params"], POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "create_cursor", ["name"], POSTGRESQL),
    (DJANGO, django_postgresql.DatabaseWrapper, "is_usable", [], POSTGRESQL),
    (DJANGO, django_postgresql, "CursorMixin", None, MESSAGES),
    (DJANGO, transaction.Atomic(None, True, False), "_from_testcase", None, POSTGRESQL),
    (DJANGO, django_connection.ops, "compose_sql", ["sql", "params"], MIGRATIONS),
    (DJANGO, MigrationLoader, "__init__", ["connection"], MIGRATIONS),
    (DJANGO, Migrate, "migration_progress_callback", ["action", "migration", "fake"], MIGRATIONS),
    (DJANGO, Signal, "has_listeners", [], MIGRATIONS),
    (DJANGO, createsuperuser.Command, "username_is_unique", None, "accounts/management/commands/createsuperuser.py"),
    (DJANGO, django_postgresql, "TIMESTAMPTZ_OID", None, POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "_savepoint", ["sid"], POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "_savepoint_commit", ["sid"], POSTGRESQL),
    (DJANGO, BaseDatabaseWrapper, "run_and_clear_commit_hooks", [], BLOCKS),
    (DJANGO, psycopg_any, "register_tzloader", ["tz", "context"], POSTGRESQL),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "_handle_search_path", ["cursor"], POSTGRESQL),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "set_tenant", ["tenant", "include_public"], POSTGRESQL),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "set_schema", ["schema_name", "include_public", "tenant_type"], POSTGRESQL),
    (DJANGO_TENANTS, TenantDatabaseWrapper, "set_schema_to_public", [], POSTGRESQL),
    (DJANGO_TENANTS, django_tenants_base, "EXTRA_SET_TENANT_METHOD", None, POSTGRESQL),
    (DJANGO_TENANTS, django_tenants_base, "DatabaseSchemaIntrospection", None, POSTGRESQL),
    (DJANGO_TENANTS, django_tenants_base, "FakeTenant", ["schema_name", "tenant_type"], POSTGRESQL),
    (PSYCOPG, psycopg.Connection, "_start_query", [], MESSAGES),
    (PSYCOPG, psycopg.Connection, "_exec_command", ["command"], MESSAGES),
    (PSYCOPG, psycopg.Connection, "_pipeline_nolock", [], MESSAGES),
    (PSYCOPG, psycopg.Connection, "_get_tx_start_command", [], MESSAGES),
    (PSYCOPG, psycopg.Connection, "_check_connection_ok", [], MESSAGES),
    (PSYCOPG, psycopg.Connection, "wait", ["gen"], MESSAGES),
    (PSYCOPG, psycopg.Connection, "transaction", [], MESSAGES),
    (PSYCOPG, psycopg.Connection, "pipeline", [], MESSAGES),
    (PSYCOPG, psycopg.generators, "execute", None, MESSAGES),
    (PSYCOPG, psycopg.ClientCursor, "mogrify", ["query", "params"], POSTGRESQL),
    (PSYCOPG, psycopg.ClientCursor, "_execute_gen", ["query", "params"], MESSAGES),
    (PSYCOPG, psycopg.ClientCursor, "_execute_send", ["query"], MESSAGES),
    (PSYCOPG, psycopg.ClientCursor, "_set_results", ["results"], MESSAGES),
    (PSYCOPG, psycopg.ClientCursor, "_raise_for_result", ["result"], MESSAGES),
    (PSYCOPG, psycopg.ServerCursor, "_close_gen", [], MESSAGES),
    (PSYCOPG, psycopg.client_cursor, "ClientCursorMixin", None, MESSAGES),
    (PSYCOPG, psycopg.pq.PGconn, "make_empty_result", ["exec_status"], MESSAGES),
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


def test_psycopgs_connection_keeps_its_state_where_owners_are_cleaned(committed_db: None) -> None:
    connection.ensure_connection()
    for name in (*OWNERS_TO_SET, "_adapters", "_notice_handlers", "_notify_handlers", "_notifies_backlog", "_prepared"):
        assert name in vars(connection.connection), f"{PSYCOPG}: a connection has no {name}, which {MESSAGES} puts back"
    for name in ("_conn", "_pgconn", "_query"):
        assert hasattr(connection.connection.cursor(), name), f"{PSYCOPG}: a cursor has no {name} any more"


def test_djangos_content_types_are_looked_up_in_the_cache_that_we_replace(committed_db: None) -> None:
    assert isinstance(vars(ContentTypeManager)["_cache"], ContentTypesOfTenant)
    ContentType.objects.get_for_model(User)
    assert content_types()[ContentType], f"{DJANGO}: ContentTypeManager keeps its cache elsewhere by now"


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
