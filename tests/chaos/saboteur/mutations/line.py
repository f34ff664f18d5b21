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
    operations = import_module("jobs.migrations.0007_kept_plans").Migration.operations
    [function] = [each for each in operations if "FUNCTION public.jobs_wake_relay()" in getattr(each, "sql", "")]
    listens, is_busy = (f"IF pg_catalog.pg_try_advisory_lock(32332, {lock})" for lock in (1, 2))
    edit(function, "sql", f"    {listens} AND", "    IF false AND")
    edit(function, "sql", f"ELS{is_busy} AND", "ELSIF true OR")


@mutation
def park_by_eight() -> None:
    """As many as a look meets."""
    edit(statements, "MARK", "job.tenant_id <> ALL(%(passed_over)s::uuid[])", "true")
