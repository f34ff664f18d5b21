"""What passes: a disk that is full for a while, a host that is gone for good, a network that comes back."""

import signal
import time

from tests.chaos.proxy import Mode
from tests.chaos.run import Run
from tests.chaos.tenants import Tenant

#: Seconds; as the relay's
MAX_PAUSE = 5
FULL = """
    CREATE OR REPLACE FUNCTION public.chaos_full() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE disk_full USING MESSAGE = 'could not extend file'; END $$
"""
# What jobs write to, and requests do not.
WRITTEN = ("chaos_effect", "billing_invoice")


def disk_full(run: Run) -> None:
    """Under load, all that jobs write is refused."""
    run.world.sql(FULL)
    for tenant in run.tenants:
        _fill(run, tenant)
    try:
        with run.load():
            time.sleep(run.pace.postgres_down)
            run.probes("effect", len(run.tenants))
            passed = "SELECT FROM jobs_job WHERE transients > 0 LIMIT 1"
            run.wait(lambda: run.world.sql(passed), "a job was handed back")
    finally:
        run.world.sql("DROP FUNCTION public.chaos_full() CASCADE")
    run.over()


def _fill(run: Run, tenant: Tenant) -> None:
    for table in WRITTEN:
        run.world.sql(
            f'CREATE TRIGGER full_disk BEFORE INSERT ON "{tenant.schema}".{table} EXECUTE FUNCTION public.chaos_full()'
        )


def host_vanished(run: Run) -> None:
    """A worker stands still for good, in a transaction whose row lock the second run needs."""
    with run.commands.hold("in-body") as hold:
        [job] = run.probes("locks", 1, time_limit=2 * run.pace.patience, soft_time_limit=2 * run.pace.patience)
        hold.wait()
        run.world.signal_all(signal.SIGSTOP, "worker")
    run.over()
    run.world.start("worker-2")
    with run.load():
        ended = "SELECT FROM jobs_job WHERE state = 'waiting' AND id = %s::uuid"
        run.wait(lambda: not run.world.sql(ended, [job]), "another one ended it")
    run.world.kill("worker")


def outage_30s(run: Run) -> None:
    """The database can't be reached for longer than a lease lasts, while a body calls the outside world."""
    limit = 4 * run.pace.patience
    # Long enough for the relay to come back, and to find leases that nobody has renewed.
    seconds = run.pace.outage + run.pace.renewed_lease + MAX_PAUSE
    with run.load():
        jobs = run.probes("call", 1, kwargs={"seconds": seconds}, time_limit=limit, soft_time_limit=limit)
        run.wait(lambda: _bodies(run, jobs) == len(jobs), "it began")
        run.world.database.turn(Mode.CUT)
        time.sleep(run.pace.outage)
        run.world.database.turn(Mode.PASS)
    run.over()
    run.wait_for_quiet()
    run.faults.twice += ["a second call was made"] * (_bodies(run, jobs) - len(jobs))


def _bodies(run: Run, jobs: list[str]) -> int:
    return sum(event["job"] in jobs for event in run.commands.events("began"))
