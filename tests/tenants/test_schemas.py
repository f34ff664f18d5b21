import psycopg
import pytest
from django.db import OperationalError, transaction
from django_tenants.utils import schema_exists

from tenants.connection import connection
from tenants.models import Tenant
from tenants.schemas import MIGRATION_LOCK
from tenants.services import create_schema, register_tenant
from tests.people import at_once


def registered(slug: str = "initech") -> Tenant:
    with transaction.atomic():
        return register_tenant(name="Initech", slug=slug)


def tables_in(schema: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])
        return {name for (name,) in cursor.fetchall()}


def test_a_schema_has_the_tenants_tables(committed_db: None, acme: Tenant) -> None:
    tenant = registered()
    create_schema(tenant)
    assert connection.schema_name == "public"
    made = tables_in(tenant.schema_name)
    assert {"accounts_user", "knox_authtoken", "django_celery_results_taskresult"} <= made
    assert (
        not {"tenants_tenant", "jobs_job", "django_celery_beat_periodictask", "django_session", "otp_totp_totpdevice"}
        & made
    )
    assert made == tables_in(acme.schema_name)


def test_no_table_of_a_tenant_refers_to_public(acme: Tenant) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT conname FROM pg_constraint
            JOIN pg_class here ON here.oid = conrelid JOIN pg_class there ON there.oid = confrelid
            WHERE here.relnamespace = %s::regnamespace AND there.relnamespace <> here.relnamespace
            """,
            [acme.schema_name],
        )
        assert cursor.fetchall() == []


def test_the_public_schema_has_the_staffs_tables(acme: Tenant) -> None:
    made = tables_in("public")
    assert {"accounts_user", "tenants_tenant", "django_session"} <= made
    assert {"otp_totp_totpdevice", "otp_static_staticdevice", "otp_static_statictoken"} <= made
    assert "knox_authtoken" not in made


def test_making_a_schema_goes_on_where_it_stopped(committed_db: None, acme: Tenant) -> None:
    tenant = registered()
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{tenant.schema_name}"')
    create_schema(tenant)
    create_schema(tenant)
    assert tables_in(tenant.schema_name) == tables_in(acme.schema_name)


def test_two_may_make_it_at_once(committed_db: None, acme: Tenant) -> None:
    tenant = registered()
    at_once(*[lambda: create_schema(tenant)] * 2)
    assert tables_in(tenant.schema_name) == tables_in(acme.schema_name)


def test_a_failure_keeps_no_lock(committed_db: None) -> None:
    tenant = registered()
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{tenant.schema_name}"')
        cursor.execute(f'CREATE TABLE "{tenant.schema_name}".accounts_user ()')
    with pytest.raises(Exception, match="accounts_user"):
        create_schema(tenant)
    with psycopg.connect(**connection.get_connection_params()) as other:
        # The session that held it may take a moment to end.
        other.execute("SET lock_timeout = '10s'")
        other.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [MIGRATION_LOCK, tenant.schema_name])


def test_a_slug_that_comes_again_gets_another_schema(committed_db: None) -> None:
    first = registered()
    Tenant.objects.filter(pk=first.pk).delete()
    assert registered().schema_name != first.schema_name


@pytest.mark.parametrize("slug", ["a", "a-b", "a" * 40, "select", "x-pg-y"])
def test_a_slugs_schema_can_be_made(committed_db: None, slug: str) -> None:
    tenant = registered(slug)
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{tenant.schema_name}"')
    assert schema_exists(tenant.schema_name)


def test_a_lock_that_is_held_too_long_is_an_error(committed_db: None) -> None:
    tenant = registered()
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [MIGRATION_LOCK, tenant.schema_name])
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        with pytest.raises(OperationalError):
            create_schema(tenant)
    assert not schema_exists(tenant.schema_name)
    connection.close()
