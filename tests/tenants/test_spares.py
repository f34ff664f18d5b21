import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import transaction
from django_tenants.utils import schema_exists, tenant_context
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import sign_up
from devstack import CHECKOUT
from devstack.processes import wait_until
from jobs.celery_hooks.backends import _schemas as schemas_with_results
from jobs.models import Job
from jobs.schema import TenantUnavailable, enter
from tenants.binding import bind_to_public, bound_schema
from tenants.connection import connection
from tenants.errors import Conflict
from tenants.models import Spare, Tenant
from tenants.schemas import MIGRATION_LOCK
from tenants.services import create_schema, register_tenant
from tenants.spares import fill_spares, set_ready, take_spare
from tests.jobs.probes import probe
from tests.people import PASSWORD, at_once
from tests.tenants.catalog import catalog

RunJobs = Callable[..., int]
MakeSpares = Callable[[int], list[Spare]]


@pytest.fixture
def make_spares(committed_db: None, settings: Settings) -> MakeSpares:
    """Fills them up to a number, which stays the setting."""

    def make(number: int) -> list[Spare]:
        settings.SPARE_SCHEMAS = number
        fill_spares()
        return list(Spare.objects.order_by("-pk"))

    return make


def registered(slug: str = "initech") -> Tenant:
    with transaction.atomic():
        return register_tenant(name="Initech", slug=slug)


def signed_up(slug: str = "initech") -> Tenant:
    owner = {"email": "ira@initech.example", "full_name": "Ira Ink", "password": PASSWORD}
    return sign_up(name="Initech", slug=slug, owner=owner)


def other_session() -> psycopg.Connection:
    return psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": None, "context": None})


def spare_schemas() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^_spare_'")
        return {name for (name,) in cursor.fetchall()}


def forbid_making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.schemas.call_command", lambda *args, **kwargs: pytest.fail("a schema was migrated"))


# What a tenant gets


def test_a_renamed_schema_is_as_a_migrated_one(make_spares: MakeSpares) -> None:
    renamed, migrated = registered("renamed"), registered("migrated")
    create_schema(migrated)
    make_spares(1)
    with transaction.atomic():
        assert take_spare(renamed)
    with psycopg.connect(**connection.get_connection_params()) as other:
        expected = catalog(other, migrated.schema_name)
        got = catalog(other, renamed.schema_name)
    assert {part: len(rows) for part, rows in expected.items() if not rows} == {"routines": 0}
    for part, rows in expected.items():
        assert got[part] == rows, part


def test_a_sign_up_takes_a_spare_and_its_job_has_nothing_to_make(
    make_spares: MakeSpares, run_jobs: RunJobs, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    [spare] = make_spares(1)
    settings.SPARE_SCHEMAS = 0
    forbid_making(monkeypatch)
    tenant = signed_up()
    assert schema_exists(tenant.schema_name)
    assert not schema_exists(spare.schema_name)
    assert not Spare.objects.exists()
    run_jobs()
    tenant.refresh_from_db()
    assert tenant.status == "active"
    credentials = {"email": "ira@initech.example", "password": PASSWORD}
    assert APIClient(headers={"host": "initech.localhost"}).post("/api/v1/tokens/", credentials).status_code == 201
    with tenant_context(tenant):
        assert User.objects.get().role == "owner"


def test_without_a_spare_the_job_makes_the_schema(
    make_spares: MakeSpares, run_jobs: RunJobs, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    settings.SPARE_SCHEMAS = 1
    with caplog.at_level(logging.WARNING):
        tenant = signed_up()
    assert "No spare schema is ready for initech" in caplog.text
    assert not schema_exists(tenant.schema_name)
    run_jobs()
    tenant.refresh_from_db()
    assert tenant.status == "active"


def test_who_wants_no_spares_is_not_told_that_there_are_none(
    committed_db: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        signed_up()
    assert not caplog.text
    assert Job.objects.count() == 1


def test_a_sign_up_that_is_rolled_back_leaves_the_spare(make_spares: MakeSpares) -> None:
    [spare] = make_spares(1)
    with transaction.atomic():
        tenant = signed_up()
        transaction.set_rollback(True)
    assert not schema_exists(tenant.schema_name)
    assert spare_schemas() == {spare.schema_name}
    assert Spare.objects.get().ready
    assert not Job.objects.exists()


def test_a_slug_that_is_taken_costs_no_spare(make_spares: MakeSpares) -> None:
    make_spares(1)
    with pytest.raises(Conflict):
        signed_up("acme")
    assert Spare.objects.get().ready


def test_sign_ups_at_once_take_different_ones(make_spares: MakeSpares) -> None:
    make_spares(3)
    tenants = at_once(*[lambda slug=slug: signed_up(slug) for slug in ("a", "b", "c", "d")])
    made = [tenant.schema_name for tenant in tenants if schema_exists(tenant.schema_name)]
    assert len(made) == 3
    assert not spare_schemas()
    assert not Spare.objects.exists()


def test_one_that_another_sign_up_holds_is_not_waited_for(make_spares: MakeSpares) -> None:
    make_spares(2)
    with transaction.atomic():
        first = signed_up("first")
        [second] = at_once(lambda: signed_up("second"))
    assert schema_exists(first.schema_name)
    assert schema_exists(second.schema_name)


# What may be taken


@pytest.mark.parametrize("gap", ["django_migrations", "auth_permission"])
def test_one_that_lacks_something_is_not_taken_but_made_anew(make_spares: MakeSpares, gap: str) -> None:
    [spare] = make_spares(1)
    with connection.cursor() as cursor:
        cursor.execute(
            f'DELETE FROM "{spare.schema_name}".{gap} WHERE id = (SELECT max(id) FROM "{spare.schema_name}".{gap})'
        )
    with transaction.atomic():
        assert not take_spare(registered())
    assert schema_exists(spare.schema_name)
    [other] = make_spares(1)
    assert spare_schemas() == {other.schema_name} != {spare.schema_name}
    with transaction.atomic():
        assert take_spare(registered("hooli"))


def test_one_whose_schema_is_gone_is_not_taken_but_made_anew(make_spares: MakeSpares) -> None:
    [spare] = make_spares(1)
    with connection.cursor() as cursor:
        cursor.execute(f'DROP SCHEMA "{spare.schema_name}" CASCADE')
    with transaction.atomic():
        assert not take_spare(registered())
    [other] = make_spares(1)
    assert spare_schemas() == {other.schema_name}


def test_one_that_is_withheld_is_not_taken(make_spares: MakeSpares) -> None:
    [spare] = make_spares(1)
    set_ready([spare.schema_name], ready=False)
    with transaction.atomic():
        assert not take_spare(registered())
    set_ready([spare.schema_name], ready=True)
    with transaction.atomic():
        assert take_spare(registered("hooli"))


def test_withholding_one_waits_for_the_sign_up_that_takes_it(make_spares: MakeSpares) -> None:
    [spare] = make_spares(1)
    with transaction.atomic():
        signed_up()
        with other_session() as other:
            other.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("UPDATE public.tenants_spare SET ready = false")
    set_ready([spare.schema_name], ready=False)
    assert not Spare.objects.exists()


# Making them


def test_a_sign_ups_job_makes_up_for_what_it_took(make_spares: MakeSpares, run_jobs: RunJobs) -> None:
    before = make_spares(2)
    signed_up()
    assert Spare.objects.count() == 1
    run_jobs()
    assert Spare.objects.filter(ready=True).count() == 2
    assert len({*before, *Spare.objects.all()}) == 3
    assert not Job.objects.exists()


def test_there_are_never_more_than_wanted(make_spares: MakeSpares, settings: Settings) -> None:
    settings.SPARE_SCHEMAS = 2
    made = at_once(fill_spares, fill_spares, fill_spares)
    assert sum(made) == 2
    assert Spare.objects.filter(ready=True).count() == 2
    assert fill_spares() == 0


def test_a_failure_leaves_nothing_that_stays(make_spares: MakeSpares, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        call_command("migrate_schemas", "accounts", **kwargs)
        raise RuntimeError("no disk")

    monkeypatch.setattr("tenants.schemas.call_command", fail)
    with pytest.raises(RuntimeError, match="no disk"):
        make_spares(1)
    monkeypatch.undo()
    [left] = Spare.objects.all()
    assert (left.ready, schema_exists(left.schema_name)) == (False, True)
    with transaction.atomic():
        assert not take_spare(registered())
    [other] = make_spares(1)
    assert other.ready
    assert spare_schemas() == {other.schema_name} != {left.schema_name}


def test_a_killed_process_leaves_nothing_that_stays(make_spares: MakeSpares) -> None:
    script = "from tenants.spares import fill_spares; fill_spares()"
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-v0", "-c", script]
    with subprocess.Popen(command, cwd=CHECKOUT) as maker:
        wait_until(lambda: bool(tables_of_spares()), seconds=60, what="a table in a spare's schema")
        maker.kill()
    [left] = Spare.objects.all()
    assert not left.ready
    with transaction.atomic():
        assert not take_spare(registered())
    wait_until(lambda: make_spares(1)[0] != left, seconds=30, what="PostgreSQL sees that the process is gone")
    assert spare_schemas() == {spare.schema_name for spare in Spare.objects.filter(ready=True)} != {left.schema_name}


def tables_of_spares() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname ~ '^_spare_' AND tablename ~ '^auth_'")
        return [name for (name,) in cursor.fetchall()]


def test_one_that_somebody_works_on_is_left_alone(make_spares: MakeSpares) -> None:
    [spare] = make_spares(1)
    set_ready([spare.schema_name], ready=False)
    with other_session() as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [MIGRATION_LOCK, spare.schema_name])
        assert make_spares(1) == [spare]
    assert make_spares(1) != [spare]


# Nobody else knows them


def test_a_spare_is_no_tenant(make_spares: MakeSpares, acme: Tenant, globex: Tenant) -> None:
    [spare] = make_spares(1)
    with pytest.raises(TenantUnavailable):
        enter(spare.schema_name)
    assert bound_schema() is None
    bind_to_public()
    with transaction.atomic():
        assert probe.for_each_tenant_on_commit("all") == 2
    assert set(schemas_with_results()) == {acme.schema_name, globex.schema_name}
    host = spare.schema_name.replace("_", "-")
    assert APIClient(headers={"host": f"{host}.localhost"}).get("/api/v1/users/me/").status_code in (400, 404)


def test_a_renamed_schema_is_guarded_as_any_other(make_spares: MakeSpares, acme: Tenant) -> None:
    make_spares(1)
    tenant = signed_up()
    with pytest.raises(TenantUnavailable):
        enter(tenant.schema_name)
    bind_to_public()
    assert APIClient(headers={"host": "initech.localhost"}).get("/api/v1/users/me/").status_code == 503
    with tenant_context(tenant), connection.cursor() as cursor:
        cursor.execute("SELECT current_schemas(false)")
        assert cursor.fetchone() == ([tenant.schema_name, "pg_catalog"],)
        Group.objects.create(name="initech's")
        assert not User.objects.exists()
    with tenant_context(acme):
        assert not Group.objects.exists()
    assert not Group.objects.exists()
