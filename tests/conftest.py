"""The cast of every test: two tenants, `acme` and `globex`, on the database that `make test` made for this run."""

import os
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.management import call_command
from django.db import transaction
from django_tenants.utils import quote_schema_name
from pytest_django import Settings
from pytest_django.plugin import DjangoDbBlocker
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from jobs import testing
from tenants.binding import bind_to_public, set_owner
from tenants.connection import connection
from tenants.models import Tenant
from tenants.role import write_role_defaults
from tenants.services import create_schema, register_tenant
from tests.parallel import WORKER, provide_database

# It needs Django, which `-p` would be too early for.
pytest_plugins = ["tests.contract"]
# What takes long starts early, so that no worker is left alone with it at the end.
FIRST = (
    "tests/chaos/",
    "tests/tenants/test_migrate_tenants.py",
    "tests/test_without_billing.py",
    "tests/api/test_schema_fuzz.py",
    "tests/api/test_slow_clients.py",
    "tests/jobs/test_state_machine.py",
    "tests/tenants/test_session_machine.py",
    "tests/jobs/test_clean_pools.py",
    "tests/tenants/test_clean_servers.py",
    "tests/poolers/",
    "tests/jobs/test_results.py",
    "tests/jobs/test_tenant_task_clean_start.py",
    "tests/jobs/test_tenant_task_fail_closed.py",
    "tests/jobs/test_pools.py",
    "tests/devstack/test_run.py",
    "tests/acceptance/",
    "tests/jobs/",
)
KEPT_TABLES = ("django_migrations", "django_content_type", "auth_permission")


def pytest_configure(config: pytest.Config) -> None:
    # The name that `make test` gives its database: tests empty tables, so they must never meet another one.
    if "/tenantry_test_" not in os.environ.get("DATABASE_URL", ""):
        pytest.exit("Run the tests with `make test`: they need a database of their own.", returncode=2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("django_db")
    asked = marker is not None and (marker.kwargs.get("transaction") or any(marker.args[:1]))
    if asked or "transactional_db" in getattr(item, "fixturenames", ()):
        pytest.fail(
            "This would delete acme and globex: use the fixture committed_db, of tests/conftest.py", pytrace=False
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if WORKER:
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    return next((turn for turn, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        bind_to_public()
        provide_database(_fill_database)
        # Not part of a database: a copy does not have them.
        write_role_defaults()
        connection.close()
    yield
    with django_db_blocker.unblock():
        connection.close()


@pytest.fixture(scope="session", autouse=True)
def _own_database(request: pytest.FixtureRequest) -> None:
    """For tests that start processes on the database of their worker."""
    if WORKER:
        request.getfixturevalue("django_db_setup")


def _fill_database() -> None:
    call_command("migrate_schemas", interactive=False, verbosity=0)
    for name in ("Acme", "Globex"):
        _make_tenant(name)
    connection.close()


def _make_tenant(name: str) -> None:
    with transaction.atomic():
        tenant = register_tenant(name=name, slug=name.lower())
    create_schema(tenant)
    Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.ACTIVE)


@pytest.fixture(autouse=True)
def _in_public() -> Iterator[None]:
    """With no owner but the process, whatever owners the test before has started."""
    set_owner(None)
    bind_to_public()
    yield
    set_owner(None)
    bind_to_public()


@pytest.fixture(autouse=True)
def _in_a_hurry(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords hash quickly, nobody is throttled or waits to log in, no schema is made but those that the test is
    about, and leases that have run out need no moment of patience.
    """
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.LOGIN_MAX_WAIT = 0
    settings.SPARE_SCHEMAS = 0
    settings.JOB_RENEWAL_INTERVAL = 0
    rates = dict.fromkeys(SimpleRateThrottle.THROTTLE_RATES)
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", rates)


@pytest.fixture
def acme(request: pytest.FixtureRequest) -> Tenant:
    return _cast(request, "acme")


@pytest.fixture
def globex(request: pytest.FixtureRequest) -> Tenant:
    return _cast(request, "globex")


def _cast(request: pytest.FixtureRequest, slug: str) -> Tenant:
    if "committed_db" not in request.fixturenames:
        request.getfixturevalue("db")
    return Tenant.objects.get(slug=slug)


@pytest.fixture
def committed_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The database without a transaction around the test, for threads and processes; emptied afterwards."""
    with django_db_blocker.unblock():
        yield
        empty_database()
        connection.close()


def empty_database() -> None:
    bind_to_public()
    Tenant.objects.exclude(slug__in=("acme", "globex")).delete()
    Tenant.objects.update(status=Tenant.Status.ACTIVE)
    kept = ["public", *Tenant.objects.values_list("schema_name", flat=True)]
    with connection.cursor() as cursor:
        for schema in _schemas():
            if schema not in kept:
                cursor.execute(f"DROP SCHEMA {quote_schema_name(schema)} CASCADE")
        if tables := _tables_with_rows(kept):
            cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")


def _schemas() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'")
        return [name for (name,) in cursor.fetchall()]


def _tables_with_rows(schemas: list[str]) -> list[str]:
    """To look is quicker than to empty them all."""
    kept = [*KEPT_TABLES, "tenants_tenant", "tenants_domain"]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables
            WHERE schemaname = ANY(%s) AND tablename <> ALL(%s) AND tablename !~ '^django_celery_beat'
            """,
            [schemas, kept],
        )
        tables = [name for (name,) in cursor.fetchall()]
        cursor.execute(" UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in tables))
        return [name for (name,) in cursor.fetchall()]


@pytest.fixture
def run_jobs() -> Callable[..., int]:
    """Drains the outbox in this process, as a relay and a worker would; see `jobs.testing.run_jobs`."""
    return testing.run_jobs


@pytest.fixture
def client_for() -> Callable[[Tenant], APIClient]:
    """An API client on a tenant's host."""

    def client_for(tenant: Tenant) -> APIClient:
        return APIClient(headers={"host": f"{tenant.slug}.{settings.BASE_DOMAIN}"})

    return client_for


@pytest.fixture
def public_client() -> APIClient:
    """An API client on the public host."""
    return APIClient(headers={"host": settings.BASE_DOMAIN})


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each password that was hashed, to store it or to compare it."""
    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    return hashed
