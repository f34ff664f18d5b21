"""docs/how-to/back-up-and-restore.md as it stands: its commands, and what a tenant is after them."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import tenant_context
from psycopg import sql

from accounts.models import User
from billing.models import Invoice, Order, Payment
from billing.services import NewLine, place_order
from billing.tasks import remind_unpaid_invoices
from devstack import CHECKOUT
from devstack.external import fresh_database
from jobs.claim import TENANT_LOCK
from jobs.models import Job
from jobs.relay.maintenance import run_maintenance
from tenants.connection import connection
from tenants.models import Domain, QuarantinedDomain, Tenant
from tenants.services import activate_tenant, create_schema, delete_tenant, register_tenant, suspend_tenant
from tests.people import add_user, client_of
from tests.tenants.catalog import catalog

pytestmark = [
    pytest.mark.needs("bash", "pg_dump", "pg_restore", "psql"),
    pytest.mark.usefixtures("committed_db"),
]

PAGE = (CHECKOUT / "docs/how-to/back-up-and-restore.md").read_text()
CAST = re.compile(r"::(character varying|text)\b(\[\])?")
# As the tests of this process: leases that have run out need no moment of patience.
RUN_JOBS = """
python manage.py shell --no-imports -c '
from django.conf import settings
from jobs.testing import run_jobs
settings.JOB_RENEWAL_INTERVAL = 0
run_jobs(ahead=True)'
"""
Run = Callable[..., str]
RunJobs = Callable[..., int]
Rows = dict[str, list[Any]]


def blocks(section: str) -> list[str]:
    """The commands of a section, block by block."""
    [text] = [text for text in PAGE.split("\n## ") if text.startswith(f"{section}\n")]
    return re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


BACK_UP = "".join(blocks("Back up all tenants") + blocks("Back up one tenant"))
SUSPEND, TAKE_OUT, PUT_BACK, MIGRATE, RESUME = blocks("Restore one tenant")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs commands in a folder of the operator's own; what they print."""
    for name in ("manage.py", "docs"):
        (tmp_path / name).symlink_to(CHECKOUT / name)

    def run(*commands: str, code: int = 0, **environ: str) -> str:
        env = {**os.environ, "SPARE_SCHEMAS": "0", **environ}
        argv = ["bash", "-euo", "pipefail", "-c", "".join(commands)]
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def initech(committed_db: None) -> Tenant:
    with transaction.atomic():
        tenant = register_tenant(name="Initech", slug="initech")
    create_schema(tenant)
    assert activate_tenant(tenant)
    return tenant


@pytest.fixture
def ian(initech: Tenant) -> User:
    return add_user(initech, "ian", "owner")


def place(tenant: Tenant, user: User) -> Order:
    with tenant_context(tenant):
        tea = NewLine(description="Tea", quantity=1, unit_amount=1250)
        return place_order(placed_by=str(user.pk), currency="EUR", payment_token="tok_ok", lines=[tea])


@contextmanager
def database(url: str = "") -> Iterator[psycopg.Connection]:
    with psycopg.connect(url or os.environ["DATABASE_URL"]) as session:
        yield session


def as_restored(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """PostgreSQL casts each member of an array where it has cast the array before."""
    return tuple(CAST.sub("", value) if isinstance(value, str) else value for value in row)


def contents(tenant: Tenant, url: str = "") -> Rows:
    """All rows of the tenant's schema, what its sequences have come to, and all that PostgreSQL knows of its tables."""
    schema = tenant.schema_name
    with database(url) as session:
        found: Rows = {
            part: sorted(map(as_restored, rows), key=repr) for part, rows in catalog(session, schema).items()
        }
        # A backup has no gaps where columns were dropped.
        found["columns"] = sorted(((table, *column) for table, _, *column in found["columns"]), key=repr)
        found["last values"] = session.execute(
            "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = %s ORDER BY 1", [schema]
        ).fetchall()
        tables = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]).fetchall()
        for (table,) in tables:
            query = sql.SQL("SELECT kept::text FROM {} AS kept ORDER BY 1").format(sql.Identifier(schema, table))
            found[f"rows of {table}"] = session.execute(query).fetchall()
    return found


def jobs_of(tenant: Tenant, url: str = "") -> list[Any]:
    """In the order of their dispatch."""
    query = """
        SELECT id, task, args, state, attempt, due_at, created_at FROM public.jobs_job WHERE tenant_id = %s ORDER BY seq
    """
    with database(url) as session:
        return session.execute(query, [tenant.pk]).fetchall()


def line(url: str = "") -> Any:
    """What the sequences of all tenants' jobs have come to."""
    with database(url) as session:
        return session.execute(
            "SELECT time.last_value, seq.last_value FROM public.jobs_virtual_time time, public.jobs_job_seq seq"
        ).fetchone()


def statuses(tenant: Tenant) -> dict[str, str]:
    with tenant_context(tenant):
        return {str(order.pk): order.status for order in Order.objects.all()}


def outcomes(payment_id: Any) -> list[str]:
    """What the card gateway did for an idempotency key."""
    with Path(os.environ["TENANTRY_CARD_LOG"]).open() as log:
        calls = [json.loads(line) for line in log]
    return [call["outcome"] for call in calls if call["key"] == str(payment_id)]


def test_the_number_of_locks_that_a_tenant_takes(acme: Tenant) -> None:
    count = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'S') AND relnamespace = %s::regnamespace"
    [stated] = re.findall(r"each sequence: (\d+) for each\ntenant", PAGE)
    with database() as session:
        assert session.execute(count, [acme.schema_name]).fetchone() == (int(stated),)


# All tenants


@pytest.mark.skipif(not os.environ.get("DATABASE_SUPERUSER_URL"), reason="needs DATABASE_SUPERUSER_URL")
def test_all_tenants_in_another_database(run: Run, acme: Tenant, initech: Tenant, ian: User, run_jobs: RunJobs) -> None:
    place(initech, ian)
    run_jobs()
    place(initech, ian)
    place(acme, add_user(acme, "ada", "owner"))
    # A worker had it at the backup.
    Job.objects.filter(tenant=acme).update(token=acme.pk, attempt=1, lease_until="2026-01-01T00:00:00Z", tag=None)
    run(*blocks("Back up all tenants"))

    url = os.environ["DATABASE_URL"]
    with fresh_database(url, superuser_url=os.environ["DATABASE_SUPERUSER_URL"]) as restored:
        run(*blocks("Restore all tenants"), RESTORED_URL=restored)

        for tenant in (acme, initech):
            assert contents(tenant, restored) == contents(tenant)
            assert jobs_of(tenant, restored) == jobs_of(tenant)
        assert line(restored) == line()
        run("python manage.py role_defaults", DATABASE_URL=restored)

        run(RUN_JOBS, DATABASE_URL=restored)
        query = sql.SQL("SELECT DISTINCT status FROM {}")
        for tenant in (acme, initech):
            assert jobs_of(tenant, restored) == []
            with database(restored) as session:
                table = sql.Identifier(tenant.schema_name, "billing_order")
                assert session.execute(query.format(table)).fetchall() == [("paid",)]


# One tenant


@pytest.mark.parametrize("dump", ["initech.dump", "all.dump"])
@pytest.mark.parametrize("deleted", [False, True], ids=["there", "deleted"])
def test_one_tenant_is_what_it_was_and_goes_on(
    run: Run, globex: Tenant, initech: Tenant, ian: User, run_jobs: RunJobs, dump: str, deleted: bool
) -> None:
    paid = place(initech, ian)
    run_jobs()
    charged = place(initech, ian)
    run_jobs(limit=1)  # its charge waits
    ordered = place(initech, ian)
    with tenant_context(initech):
        remind_unpaid_invoices.apply_async_on_commit(countdown=3600)
        payment = Payment.objects.get(invoice__order=charged)
    was, had = contents(initech), jobs_of(initech)
    assert len(had) == 3
    run(BACK_UP)

    # What came after the backup
    run_jobs()
    assert outcomes(payment.pk) == ["charged"]
    place(initech, ian)
    place(globex, add_user(globex, "gus", "owner"))
    Tenant.objects.filter(pk=initech.pk).update(name="Renamed")
    if deleted:
        delete_tenant(initech)
        run_maintenance()
        assert not Tenant.objects.filter(slug="initech").exists()
        assert QuarantinedDomain.objects.filter(domain="initech.localhost").exists()
    others, reached = (contents(globex), jobs_of(globex)), line()
    connection.close()

    run(SUSPEND, TAKE_OUT.replace("initech.dump", dump), PUT_BACK, MIGRATE)

    assert (contents(initech), jobs_of(initech)) == (was, had)
    assert (contents(globex), jobs_of(globex)) == others
    assert line()[0] == reached[0]
    assert line()[1] == reached[1] + len(had)
    assert Tenant.objects.get(pk=initech.pk).name == "Initech"
    assert [domain.domain for domain in Domain.objects.filter(tenant=initech)] == ["initech.localhost"]
    assert not QuarantinedDomain.objects.exists()
    client = client_of(initech, ian)
    assert client.get("/api/v1/orders/").status_code == 403
    run_jobs()
    assert jobs_of(initech) == had

    assert "billing.tasks.charge_payment" in run(RESUME)

    assert client.get("/api/v1/orders/").json()["results"][0]["id"] == str(ordered.pk)
    assert run_jobs() > 0
    assert set(statuses(initech)) == {str(order.pk) for order in (paid, charged, ordered)}
    assert set(statuses(initech).values()) == {"paid"}
    assert outcomes(payment.pk) == ["charged", "replayed"]
    with tenant_context(initech):
        assert sorted(Invoice.objects.values_list("number", flat=True)) == ["INV-000001", "INV-000002", "INV-000003"]
    assert [task for _, task, *_ in jobs_of(initech)] == ["billing.tasks.remind_unpaid_invoices"]


@pytest.mark.skipif(not os.environ.get("DATABASE_SUPERUSER_URL"), reason="needs DATABASE_SUPERUSER_URL")
def test_one_tenant_in_another_installation(run: Run, initech: Tenant, ian: User) -> None:
    """Whose line has not come as far, and whose ids of hosts are others."""
    place(initech, ian)
    run(BACK_UP)

    url = os.environ["DATABASE_URL"]
    with fresh_database(url, superuser_url=os.environ["DATABASE_SUPERUSER_URL"]) as other:
        run(MIGRATE, DATABASE_URL=other)
        run(SUSPEND, TAKE_OUT, PUT_BACK, MIGRATE, RESUME, DATABASE_URL=other)

        assert contents(initech, other) == contents(initech)
        assert jobs_of(initech, other) == jobs_of(initech)
        run(RUN_JOBS, DATABASE_URL=other)
        assert jobs_of(initech, other) == []


def test_jobs_that_ran_or_died_wait_or_are_dead_again(run: Run, initech: Tenant, ian: User, run_jobs: RunJobs) -> None:
    """Whatever a row said of its worker, its place in line and the workers' knowledge at the backup."""
    running, dead, unknown = (UUID(str(place(initech, ian).jobs[0])) for _ in range(3))
    Job.objects.filter(pk=running).update(token=running, attempt=1, lease_until="2999-01-01T00:00:00Z", tag=None)
    Job.objects.filter(pk=dead).update(state="dead", died_at=timezone.now(), tag=None, error="no luck")
    Job.objects.filter(pk=unknown).update(unknown_since="2026-01-01T00:00:00Z", tag=10**11)
    run(BACK_UP)
    Job.objects.all().delete()
    connection.close()

    run(SUSPEND, TAKE_OUT, PUT_BACK, RESUME)

    fields = ("pk", "state", "attempt", "token", "lease_until", "unknown_since", "tag")
    assert list(Job.objects.order_by("seq").values_list(*fields)) == [
        (running, "waiting", 1, None, None, None, None),
        (dead, "dead", 0, None, None, None, None),
        (unknown, "waiting", 0, None, None, None, None),
    ]
    run_jobs()
    assert list(Job.objects.values_list("pk", "error")) == [(dead, "no luck")]


# What is refused


@pytest.fixture
def backed_up(run: Run, initech: Tenant, ian: User) -> Rows:
    """What the tenant is; there is a backup of it."""
    place(initech, ian)
    run(BACK_UP)
    return contents(initech)


def test_a_tenant_that_is_served(run: Run, initech: Tenant, backed_up: Rows) -> None:
    assert "Suspend it first." in run(TAKE_OUT, PUT_BACK, code=3)
    assert contents(initech) == backed_up


def test_a_tenant_whose_job_runs(run: Run, initech: Tenant, backed_up: Rows) -> None:
    suspend_tenant(initech)
    Job.objects.update(token=initech.pk, lease_until="2999-01-01T00:00:00Z")
    assert "still run." in run(TAKE_OUT, PUT_BACK, code=3)
    assert contents(initech) == backed_up


def test_a_tenant_whose_jobs_body_is_under_way(run: Run, initech: Tenant, backed_up: Rows) -> None:
    suspend_tenant(initech)
    with database() as body:
        body.execute("SELECT pg_advisory_xact_lock_shared(%s, hashtext(%s))", [TENANT_LOCK, str(initech.pk)])
        assert "still run." in run(TAKE_OUT, PUT_BACK, code=3)
    run(PUT_BACK)


def test_a_tenant_that_the_backup_does_not_have(run: Run, initech: Tenant, backed_up: Rows) -> None:
    suspend_tenant(initech)
    output = run(TAKE_OUT, PUT_BACK.replace("slug=initech", "slug=hooli"), code=3)
    assert "no such tenant" in output
    assert contents(initech) == backed_up


@pytest.mark.parametrize("taken", ["slug", "host"])
def test_a_slug_or_host_that_another_tenant_has_by_now(
    run: Run, initech: Tenant, globex: Tenant, backed_up: Rows, taken: str
) -> None:
    delete_tenant(initech, quarantine=False)
    run_maintenance()
    with transaction.atomic():
        if taken == "slug":
            register_tenant(name="Another", slug="initech")
        else:
            Domain.objects.create(tenant=globex, domain="initech.localhost", is_primary=False)
    constraint = {"slug": "tenant_slug_unique", "host": "_domain_key"}[taken]

    assert f'{constraint}"' in run(TAKE_OUT, PUT_BACK, code=3)

    assert not Tenant.objects.filter(pk=initech.pk).exists()
    assert Job.objects.filter(tenant=initech.pk).count() == 0
    Domain.objects.filter(tenant=globex, is_primary=False).delete()
