"""The line, which no count of jobs judges: tests do."""

from importlib import import_module

from jobs.relay import statements
from tests.chaos.saboteur.mutations.ways import edit, mutation


@mutation
def no_retag() -> None:
    """What virtual time has passed stays where it is."""
    edit(statements, "RETAG_LATE", "WHERE tag >= 0", "WHERE false")


@mutation
def virtual_time_falls() -> None:
    """To wherever a relay takes a job."""
    edit(statements, "MARK", "public.jobs_advance_virtual_time(", "setval('public.jobs_virtual_time', ")


@mutation
def wake_by_due_time() -> None:
    """First come, first served."""
    edit(statements, "WAKE_EACH_TENANT", "job.state = 'waiting'", "false")


@mutation
def notify_always() -> None:
    migration = import_module("jobs.migrations.0005_wake_relay").Migration
    function = migration.operations[0]
    edit(function, "sql", "IF pg_catalog.pg_try_advisory_lock(32332, 1)", "IF false AND true")
    edit(function, "sql", "ELSIF pg_catalog.pg_try_advisory_lock(32332, 2)", "ELSIF true")


@mutation
def park_by_eight() -> None:
    """As many as a look meets."""
    edit(statements, "MARK", "job.tenant_id <> ALL(%(passed_over)s::uuid[])", "true")
