"""Options of Django, psycopg and django-tenants: each has its effect, or is refused by name."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from celery import current_app
from celery.fixups.django import DjangoWorkerFixup
from celery.signals import task_postrun, task_prerun
from django.conf import settings as django_settings
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished, request_started
from django.db import OperationalError, ProgrammingError, connections, transaction
from django.test import override_settings
from django_tenants.utils import schema_context, tenant_context
from psycopg.rows import dict_row

from devstack import CHECKOUT
from tenants import role
from tenants.checks import check_options
from tenants.connection import connection
from tenants.models import Tenant
from tenants.session import end_owner, start_owner
from tests.jobs.claims import deliver
from tests.jobs.durables import atomic, bodies, sql
from tests.wire import queries

SUPERUSER_URL = os.environ.get("DATABASE_SUPERUSER_URL", "")
PID = "SELECT pg_backend_pid()"

# The key of DATABASES or its OPTIONS, or the setting, with a value that is refused
OPTIONS = [
    ("tenants.E001", "isolation_level", psycopg.IsolationLevel.SERIALIZABLE),
    ("tenants.E001", "isolation_level", 3),
    ("tenants.E002", "pool", True),
    ("tenants.E002", "pool", {"min_size": 1}),
    ("tenants.E003", "server_side_binding", True),
    ("tenants.E004", "prepare_threshold", 0),
    ("tenants.E004", "prepare_threshold", 5),
    ("tenants.E005", "assume_role", "pg_database_owner"),
    ("tenants.E006", "cursor_factory", psycopg.ClientCursor),
    ("tenants.E007", "row_factory", dict_row),
    ("tenants.E008", "context", psycopg.adapters),
    ("tenants.E009", "autocommit", False),
    ("tenants.E010", "client_encoding", "LATIN1"),
]
DATABASE = [
    ("tenants.E012", "AUTOCOMMIT", False),
]
SETTINGS = [
    ("tenants.E015", "PG_EXTRA_SEARCH_PATHS", ["public"]),
    ("tenants.E015", "PG_EXTRA_SEARCH_PATHS", ["extensions", "acme_0123456789ab"]),
    ("tenants.E015", "PG_EXTRA_SEARCH_PATHS", ["_spare_0123456789ab"]),
    ("tenants.E015", "PG_EXTRA_SEARCH_PATHS", ["pg_catalog"]),
    ("tenants.E015", "PG_EXTRA_SEARCH_PATHS", ["$user"]),
    ("tenants.E015", "PG_EXTRA_SEARCH_PATHS", "extensions"),
    ("tenants.E016", "PUBLIC_SCHEMA_NAME", "platform"),
    ("tenants.E017", "TENANT_DB_ALIAS", "tenants"),
    ("tenants.E018", "ORIGINAL_BACKEND", "django.contrib.gis.db.backends.postgis"),
    ("tenants.E019", "EXTRA_SET_TENANT_METHOD_PATH", "shop.tenants.note"),
    ("tenants.E020", "HAS_MULTI_TYPE_TENANTS", True),
    ("tenants.E020", "TENANT_TYPES", {"public": {}}),
    ("tenants.E021", "TENANT_LIMIT_SET_CALLS", True),
    ("tenants.E022", "TENANT_SUBFOLDER_PREFIX", "clients"),
    ("tenants.E023", "SHOW_PUBLIC_IF_NO_TENANT_FOUND", True),
    ("tenants.E023", "DEFAULT_NOT_FOUND_TENANT_VIEW", "shop.views.sorry"),
    ("tenants.E024", "TENANT_CREATION_FAKES_MIGRATIONS", True),
    ("tenants.E024", "TENANT_BASE_SCHEMA", "template"),
    ("tenants.E025", "TENANT_MIGRATION_ORDER", ["name"]),
    ("tenants.E026", "TENANT_BASE_MIGRATE_COMMAND", "shop.management.Migrate"),
    ("tenants.E026", "GET_EXECUTOR_FUNCTION", "shop.executors.choose"),
    ("tenants.E028", "SCHEMAS_AT_A_TIME", 0),
]
HARMLESS = [
    ("isolation_level", psycopg.IsolationLevel.READ_COMMITTED),
    ("isolation_level", 2),
    ("pool", False),
    ("server_side_binding", False),
    ("prepare_threshold", None),
    ("assume_role", None),
    ("autocommit", True),
    ("client_encoding", "UTF8"),
]

Set = Callable[..., None]


@pytest.fixture
def configure(committed_db: None) -> Iterator[Set]:
    """Changes the database's keys, and its OPTIONS, until the test ends. The next statement connects anew."""
    configured = connection.settings_dict
    before = {**configured, "OPTIONS": {**configured["OPTIONS"]}}

    def configure(options: dict[str, Any] | None = None, **keys: Any) -> None:
        connection.close()
        configured["OPTIONS"].update(options or {})
        configured.update(keys)
        forget_time_zone()

    yield configure
    connection.close()
    configured.clear()
    configured.update(before)
    forget_time_zone()


def forget_time_zone() -> None:
    for name in ("timezone", "timezone_name"):
        vars(connections["default"]).pop(name, None)


def assert_refused(id: str, name: str) -> None:
    [error] = check_options()
    assert (error.id, name in error.msg) == (id, True)
    assert error.hint
    connection.close()
    with pytest.raises(ImproperlyConfigured, match=name) as refusal:
        sql("SELECT 1")
    assert error.msg in str(refusal.value)
    assert error.hint in str(refusal.value)


# Refused


def test_the_project_as_it_is_passes() -> None:
    assert check_options() == []


@pytest.mark.parametrize(("id", "name", "value"), OPTIONS)
def test_an_option_is_refused(configure: Set, id: str, name: str, value: object) -> None:
    configure({name: value})
    assert_refused(id, name)


@pytest.mark.parametrize(("id", "name", "value"), DATABASE)
def test_a_key_of_the_database_is_refused(configure: Set, id: str, name: str, value: object) -> None:
    configure(**{name: value})
    assert_refused(id, name)


@pytest.mark.parametrize(("id", "name", "value"), SETTINGS)
def test_a_setting_is_refused(committed_db: None, id: str, name: str, value: object) -> None:
    with override_settings(**{name: value}):
        assert_refused(id, name)


def test_an_option_of_the_connection_past_the_pooler_is_refused(configure: Set) -> None:
    configure(
        DIRECT={"OPTIONS": {**connection.settings_dict["OPTIONS"], "pool": True}}, DISABLE_SERVER_SIDE_CURSORS=True
    )
    [error] = check_options()
    assert error.id == "tenants.E002"
    with pytest.raises(ImproperlyConfigured, match="pool"), connection.direct():
        sql("SELECT 1")


def test_startup_options_are_refused_behind_a_pooler(configure: Set) -> None:
    direct = {"OPTIONS": {"options": "-c work_mem=5MB"}}
    configure({"options": "-c work_mem=5MB"}, DIRECT=direct, DISABLE_SERVER_SIDE_CURSORS=True)
    assert_refused("tenants.E011", "options")
    with connection.direct():
        assert sql("SHOW work_mem") == [("5MB",)]


def test_server_side_cursors_are_refused_behind_a_pooler(configure: Set) -> None:
    configure(DIRECT={})
    assert_refused("tenants.E027", "server-side cursors")
    configure(DISABLE_SERVER_SIDE_CURSORS=True)
    assert check_options() == []


def test_another_engine_is_refused(configure: Set) -> None:
    configure(ENGINE="django_tenants.postgresql_backend")
    [error] = check_options()
    assert (error.id, "ENGINE" in error.msg) == ("tenants.E013", True)


def test_a_second_database_of_tenants_is_refused(configure: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(django_settings.DATABASES, "replica", {**connection.settings_dict})
    [error] = check_options()
    assert (error.id, "'replica'" in error.msg) == ("tenants.E014", True)
    with pytest.raises(ImproperlyConfigured, match="'replica'"):
        connections.create_connection("replica").cursor()


def test_a_second_database_of_another_engine_is_accepted(committed_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(django_settings.DATABASES, "archive", {"ENGINE": "django.db.backends.postgresql"})
    assert check_options() == []


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_an_option_that_changes_nothing_is_accepted(configure: Set, name: str, value: object) -> None:
    configure({name: value})
    assert check_options() == []
    assert sql("SELECT 1") == [(1,)]


def test_web_does_not_start_with_a_refused_option() -> None:
    """gunicorn runs no checks."""
    url = os.environ["DATABASE_URL"]
    url += "&pool=true" if "?" in url else "?pool=true"
    done = start_python("import config.wsgi", DATABASE_URL=url)
    assert done.returncode != 0
    assert "tenants.E002" in done.stderr


# Honoured: search paths


@contextmanager
def extensions() -> Iterator[None]:
    """A schema like that of an extension, with a type and a function."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
        session.execute("CREATE SCHEMA extensions")
        try:
            session.execute("CREATE DOMAIN extensions.shout AS text CHECK (VALUE = upper(VALUE))")
            session.execute("CREATE FUNCTION extensions.shouted(text) RETURNS text RETURN upper($1)")
            yield
        finally:
            session.execute("DROP SCHEMA extensions CASCADE")


def test_a_tenant_finds_what_is_in_an_extra_search_path(committed_db: None, acme: Tenant) -> None:
    with extensions(), override_settings(PG_EXTRA_SEARCH_PATHS=["extensions"]):
        for _ in range(2):
            start_owner()
            with tenant_context(acme):
                assert sql("SELECT shouted('tea')::shout") == [("TEA",)]
                with transaction.atomic():
                    assert sql("SELECT shouted('tea')::shout") == [("TEA",)]
                sql("CREATE TABLE cry (text shout)")
                assert sql("SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'cry'") == [
                    (acme.schema_name,)
                ]
                sql("DROP TABLE cry")
                with pytest.raises(ProgrammingError, match="tenants_tenant"):
                    sql("SELECT FROM tenants_tenant")
        end_owner()


def test_extra_search_paths_need_no_database_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "extended.py").write_text('from config.settings import *\nPG_EXTRA_SEARCH_PATHS = ["extensions"]\n')
    environ = {
        "DJANGO_SETTINGS_MODULE": "extended",
        "PYTHONPATH": f"{tmp_path}:{CHECKOUT}",
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nowhere",
    }
    assert run_python("import django; django.setup(); print('started')", **environ) == "started"


def start_python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=CHECKOUT, env={**os.environ, **environ}, capture_output=True, text=True)


def run_python(code: str, **environ: str) -> str:
    done = start_python(code, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Honoured: the time zone


def test_each_owner_has_the_time_zone_of_the_database(configure: Set) -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    configure(TIME_ZONE="Asia/Tokyo")
    role.write_role_defaults()
    connection.close()
    try:
        for _ in range(2):
            start_owner()
            with schema_context("public"):
                assert sql("SHOW timezone") == [("Asia/Tokyo",)]
                [(read,)] = sql("SELECT '2026-07-01 12:00+00'::timestamptz")
            assert (read, read.tzinfo) == (noon, ZoneInfo("Asia/Tokyo"))
        assert role.wrong_defaults() == {}
    finally:
        end_owner()
        configure(TIME_ZONE=None)
        with schema_context("public"):
            role.write_role_defaults()


# Honoured: isolation


def test_the_role_s_isolation_wins_over_the_server_s(committed_db: None) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
        database = session.info.dbname
        session.execute(f"ALTER DATABASE \"{database}\" SET default_transaction_isolation = 'serializable'")
        try:
            connection.close()
            assert sql("SHOW transaction_isolation") == [("read committed",)]
            with transaction.atomic():
                assert sql("SHOW transaction_isolation") == [("read committed",)]
        finally:
            session.execute(f'ALTER DATABASE "{database}" RESET default_transaction_isolation')


def test_isolation_by_startup_options_is_found_by_the_verification(configure: Set) -> None:
    configure({"options": "-c default_transaction_isolation=serializable"})
    assert role.wrong_defaults() == {"default_transaction_isolation": "serializable"}


def test_a_transaction_may_ask_for_more_isolation(committed_db: None) -> None:
    with transaction.atomic():
        sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        assert sql("SHOW transaction_isolation") == [("serializable",)]
    assert sql("SHOW transaction_isolation") == [("read committed",)]


# Honoured: the role


@pytest.mark.skipif(not SUPERUSER_URL, reason="needs DATABASE_SUPERUSER_URL, to make a role")
def test_a_role_that_the_login_is_given_holds_for_each_owner(configure: Set) -> None:
    """The remedy for assume_role."""
    login, assumed = connection.settings_dict["USER"], f"{connection.settings_dict['NAME']}_assumed"
    # Not for the databases of other tests, which run meanwhile.
    here = f'ALTER ROLE "{login}" IN DATABASE "{connection.settings_dict["NAME"]}"'
    with psycopg.connect(SUPERUSER_URL, autocommit=True) as superuser:
        superuser.execute(f'CREATE ROLE "{assumed}"; GRANT "{assumed}" TO "{login}"')
        role.remove_role_defaults()
        superuser.execute(f'{here} SET role = "{assumed}"')
        try:
            connection.close()
            role.write_role_defaults()
            connection.close()
            for _ in range(2):
                start_owner()
                with schema_context("public"):
                    assert sql("SELECT current_user, session_user") == [(assumed, login)]
                assert role.wrong_defaults() == {}
        finally:
            end_owner()
            connection.close()
            superuser.execute(f"{here} RESET role")
            with schema_context("public"):
                role.write_role_defaults()
            superuser.execute(f'DROP ROLE "{assumed}"')


# Honoured: what libpq takes


def test_parameters_of_libpq_hold_for_each_owner(configure: Set) -> None:
    configure({"application_name": "shop", "options": "-c work_mem=5MB"})
    for _ in range(2):
        start_owner()
        with schema_context("public"):
            assert sql("SELECT current_setting('application_name'), current_setting('work_mem')") == [("shop", "5MB")]
            sql("SET application_name = 'hidden'; SET work_mem = '6MB'")
    end_owner()


def test_a_service_names_the_database(configure: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = connection.settings_dict["NAME"]
    (tmp_path / "services").write_text(f"[shop]\ndbname={name}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    configure({"service": "shop"}, NAME="")
    assert sql("SELECT current_database()") == [(name,)]


# Honoured: Django's keys


@pytest.mark.parametrize(("disabled", "fetched"), [(False, True), (True, False)])
def test_server_side_cursors_can_be_disabled(configure: Set, disabled: bool, fetched: bool) -> None:
    configure(DISABLE_SERVER_SIDE_CURSORS=disabled)
    with queries() as sent:
        list(Group.objects.iterator())
    assert any("FETCH" in query for query in sent) == fetched


def test_a_health_check_replaces_a_session_that_ended(configure: Set, acme: Tenant) -> None:
    configure(CONN_HEALTH_CHECKS=True, CONN_MAX_AGE=None)
    first = pid_of_request(acme)
    end_session(first)
    assert pid_of_request(acme) != first


def test_without_health_checks_it_is_an_error(configure: Set, acme: Tenant) -> None:
    configure(CONN_HEALTH_CHECKS=False, CONN_MAX_AGE=None)
    end_session(pid_of_request(acme))
    with pytest.raises(OperationalError):
        pid_of_request(acme)


@pytest.mark.parametrize(("age", "kept"), [(0, False), (600, True), (None, True)])
def test_requests_keep_a_connection_for_its_maximal_age(
    configure: Set, acme: Tenant, globex: Tenant, age: int | None, kept: bool
) -> None:
    configure(CONN_MAX_AGE=age)
    assert (pid_of_request(acme) == pid_of_request(globex)) == kept


def pid_of_request(tenant: Tenant) -> int:
    """The session in which a request of a tenant is served, with all that Django does before and after it."""
    request_started.send(sender=None, environ={})
    try:
        with tenant_context(tenant):
            [(pid, schema)] = sql("SELECT pg_backend_pid(), current_schema()")
        assert schema == tenant.schema_name
    finally:
        request_finished.send(sender=None)
    return int(pid)


def end_session(pid: int) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@pytest.mark.parametrize("age", [0, None])
@pytest.mark.parametrize(("tasks", "kept"), [(0, False), (1, False), (1000, True)])
def test_tasks_keep_a_connection_for_their_number(
    configure: Set, acme: Tenant, globex: Tenant, age: int | None, tasks: int, kept: bool
) -> None:
    configure(CONN_MAX_AGE=age)
    pids: list[int] = []
    bodies(lambda task: pids.append(sql(PID)[0][0]))
    with as_a_worker(tasks):
        for tenant in (acme, globex, acme):
            with schema_context(tenant.schema_name):
                job_id = atomic.delay_on_commit()
            deliver(job_id)
    assert len(pids) == 3
    assert (len(set(pids)) == 1) == kept


@contextmanager
def as_a_worker(tasks: int) -> Iterator[None]:
    """What Celery does to a worker's connections before and after each task."""
    fixup = DjangoWorkerFixup(current_app)
    fixup.db_reuse_max = tasks
    task_prerun.connect(fixup.on_task_prerun)
    task_postrun.connect(fixup.on_task_postrun)
    try:
        yield
    finally:
        task_prerun.disconnect(fixup.on_task_prerun)
        task_postrun.disconnect(fixup.on_task_postrun)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "600 1000"),
        ({"DATABASE_MAX_AGE": "0", "WORKER_TASKS_PER_CONNECTION": "5"}, "0 5"),
        ({"DATABASE_URL": "postgres://localhost/shop?conn_max_age=None"}, "None 1000"),
    ],
)
def test_the_environment_says_for_how_long_connections_are_kept(environ: dict[str, str], expected: str) -> None:
    code = "from config import settings as s; print(s.DATABASES['default']['CONN_MAX_AGE'], s.CELERY_DB_REUSE_MAX)"
    assert run_python(code, **environ) == expected
