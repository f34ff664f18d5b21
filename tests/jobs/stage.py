"""The scene of the state machine: parties, tenants, and the body that every job of theirs runs."""

from typing import Any

from celery.exceptions import Ignore
from django.db import transaction

from jobs.task import TenantTask
from tenants.connection import connection
from tenants.models import Tenant
from tenants.services import register_tenant
from tests.jobs.durables import sql
from tests.jobs.parties import Order, Party, here
from tests.jobs.promise import RESULTS, RETRY_AFTER

# Where a body stops
BEGUN, CALLED, EFFECT, COMPLETED = BODY = ("begun", "called", "effect", "completed")
EFFECTS = "CREATE TABLE {schema}.job_effect (job text, token text)"


class Stage:
    """The parties and tenants, which serve one example after the other."""

    def __init__(self) -> None:
        # No crash of the server is part of the play, and each step waits for a COMMIT.
        sql(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" SET synchronous_commit = off')
        self.requests, self.operator, self.parent = map(Party, ("requests", "operator", "parent"))
        self.relay, self.other_relay = self.relays = [Party("relay"), Party("other relay")]
        self.workers = [Party(f"worker {number}") for number in range(3)]
        self.parties = [self.requests, *self.relays, self.operator, self.parent, *self.workers]
        self.tenants = [Tenant.objects.get(slug=slug) for slug in ("acme", "globex")]
        self.begun: list[tuple[str, str, list[Any], str]] = []
        self.calls: list[tuple[str, str]] = []
        for schema in ("public", *(tenant.schema_name for tenant in self.tenants)):
            sql(EFFECTS.format(schema=schema))

    def close(self) -> None:
        for party in self.parties:
            party.end()
        for schema in ("public", *(tenant.schema_name for tenant in self.tenants)):
            sql(f"DROP TABLE {schema}.job_effect")
        sql(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" RESET synchronous_commit')

    def set(self) -> tuple[list[str], str]:
        """Empty, with all tenants active; the schemas, and the first of them, which can be deleted."""
        # What an example that failed has left: it must fail again in the same way, to be told.
        self.begun.clear()
        self.calls.clear()
        for party in self.parties:
            party.forget()
        doomed = Tenant.objects.filter(slug="doomed").first() or self._doomed()
        Tenant.objects.update(status=Tenant.Status.ACTIVE)
        schemas = [*(tenant.schema_name for tenant in (doomed, *self.tenants)), "public"]
        tables = [f"{schema}.{table}" for schema in schemas for table in (RESULTS, "job_effect")]
        # Emptied to the ground: the order of rows on the disk must be no source of chance.
        sql("; ".join(["TRUNCATE public.jobs_job", *(f"DELETE FROM {table}" for table in tables)]))
        return schemas, doomed.schema_name

    def _doomed(self) -> Tenant:
        with transaction.atomic():
            tenant = register_tenant(name="Doomed", slug="doomed")
        # Just what its jobs need: migrations take too long to delete one in every other example.
        sql(f"CREATE SCHEMA {tenant.schema_name}")
        sql(f"CREATE TABLE {tenant.schema_name}.{RESULTS} (LIKE {self.tenants[0].schema_name}.{RESULTS} INCLUDING ALL)")
        sql(EFFECTS.format(schema=tenant.schema_name))
        return tenant

    def body(self, task: TenantTask, *args: Any) -> dict[str, Any]:
        lease = task.request.lease
        [[schema]] = sql("SELECT current_schema()")
        self.begun.append((lease.id, lease.token, list(args), schema))
        with task.before_call():
            self.stop(task, BEGUN)
        if task.atomic:
            self.leave_effect(task)
        else:
            self.calls.append((lease.id, str(args)))
            self.stop(task, CALLED)
            with task.completion() as done:
                self.leave_effect(task)
                done.result = {"token": lease.token, "args": args}
            self.stop(task, COMPLETED)
        return {"token": lease.token, "args": args}

    def leave_effect(self, task: TenantTask) -> None:
        sql("INSERT INTO job_effect VALUES (%s, %s)", task.request.lease.id, task.request.lease.token)
        self.stop(task, EFFECT)

    def stop(self, task: TenantTask, at: str) -> None:
        match here().stop(at):
            case Order.RETRY:
                task.retry(countdown=RETRY_AFTER)
            case Order.SNOOZE:
                raise task.snooze(RETRY_AFTER)
            case Order.PASS:
                sql("SELECT pg_cancel_backend(pg_backend_pid())")
            case Order.FAIL:
                raise ValueError("as ordered")
            case Order.IGNORE:
                raise Ignore("as ordered")
