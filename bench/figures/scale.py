"""What many tenants, many rows and many jobs do to the cost of one."""

import time
from statistics import median

from bench.measure import PATIENCE, watch, work_off
from bench.statistics import Outcome, Part, compare, interleaved
from bench.system import RESULTS, System
from bench.world import World
from devstack.processes import wait_until

MANY, FEW = 1000, 10
JOBS = 800
# Until each of the worker's sessions knows most tenants' tables
WARM_UPS = 3
ROWS = 1_000_000
# With these rows; each takes some of them.
ROUNDS = 3
# Of a job's cost: what holds, and what would be good
AT_MOST, WANTED = 1.3, 1.15
LOOK_SECONDS = 0.005
# One tenant's, as `jobs.outbox` writes them: half in line, half due tomorrow.
FILL = """
    INSERT INTO public.jobs_job (
        id, tenant_id, task, args, kwargs, link, link_error, request_id, due_at, next_send_at, tag, state, attempt,
        retries, kills, lost, sends, error, traceback, created_at
    )
    SELECT gen_random_uuid(), home.id, 'bench.work.tasks.look_and_tell', '["{home}"]', '{{}}', '[]', '[]', '',
        term.due, term.due, CASE WHEN term.place % 2 = 0 THEN term.place END, 'waiting', 0, 0, 0, 0, 0, '', '', now()
    FROM public.tenants_tenant home, (
        SELECT place, now() + place % 2 * interval '1 day' AS due FROM generate_series(1, {rows}) AS place
    ) AS term
    WHERE home.schema_name = '{home}'
"""


def fan_out(world: World) -> Outcome:
    """One schedule to 1,000 tenants, until all are in the outbox, against publishing one by one; and no herd then."""
    with world.tenantry(count=MANY) as ours, world.plain_celery() as theirs:

        def fanned() -> tuple[float, float]:
            ours.empty()
            seconds = ours.call("fan_out")
            return seconds, _herd(ours)

        def published() -> tuple[float, float]:
            theirs.empty()
            return theirs.call("delay", task="look", homes=theirs.homes, times=MANY), MANY

        fanned()
        rounds = interleaved(fanned, published)
    parts = [
        compare("seconds until all are dispatched", rounds, lambda measured: measured[0], at_most=0.03),
        compare("messages in the broker at once, of 1,000", rounds, lambda measured: measured[1], at_most=0.1),
    ]
    return Outcome(parts, "ratio", {"ours, seconds": median(round.ours[0] for round in rounds)})


def _herd(system: System) -> float:
    """The most messages that lie in the broker at once until all jobs have run."""
    most = 0

    def is_over() -> bool:
        nonlocal most
        most = max(most, int(system.redis.llen("jobs")))
        time.sleep(LOOK_SECONDS)
        return bool(most) and system.is_idle()

    with system.awake():
        wait_until(is_over, seconds=PATIENCE, what="all jobs run")
    system.check(MANY, results=MANY)
    return most


def durable_cost(world: World) -> Outcome:
    """Of one job, from its dispatch to its result: 1,000 tenants against 10; 1,000,000 rows waiting against none."""
    parts = [_by_tenants(world), _by_rows(world)]
    note = f"dispatched one by one, then drained by relay and worker; {WANTED} is wanted"
    return Outcome(parts, "ratio of seconds a job", {"note": note})


def _by_tenants(world: World) -> Part:
    with world.tenantry(count=MANY) as many, world.tenantry(count=FEW, name="few") as few:
        for _ in range(WARM_UPS):
            _cost(many), _cost(few)
        rounds = interleaved(lambda: _cost(many), lambda: _cost(few))
    return compare("1,000 tenants against 10", rounds, float, at_most=AT_MOST)


def _by_rows(world: World) -> Part:
    with world.tenantry(count=FEW + 1) as crowded, world.tenantry(count=FEW, name="few") as few:
        crowd = crowded.homes.pop()
        _cost(crowded), _cost(few)
        crowded.empty()
        crowded.database.sql(FILL.format(home=crowd, rows=ROWS))
        crowded.database.sql("VACUUM ANALYZE public.jobs_job")
        crowded.database.postgres.execute("CHECKPOINT")
        rounds = interleaved(lambda: _cost_among(crowded, crowd), lambda: _cost(few), rounds=ROUNDS)
    return compare("1,000,000 rows waiting against none", rounds, float, at_most=AT_MOST)


def _cost(system: System) -> float:
    """Seconds a job."""
    system.empty()
    dispatch = _dispatch(system)
    return dispatch + 1 / work_off(system, JOBS, results=JOBS)


def _cost_among(system: System, crowd: str) -> float:
    """As `_cost`, while a crowd of rows waits, whose tenant takes its turns."""
    system.database.reset_count()
    system.database.empty(RESULTS)
    dispatch = _dispatch(system)
    with system.awake():
        rate = watch(system, JOBS)
        system.sleep("relay")
        wait_until(lambda: _let_go(system), seconds=PATIENCE, what="worker idle")
    system.check(system.database.count(), results=system.database.count(), homes=[*system.homes, crowd])
    return dispatch + 1 / rate


def _dispatch(system: System) -> float:
    seconds: float = system.call("insert", task="look_and_tell", homes=system.homes, times=JOBS)
    return seconds / JOBS


def _let_go(system: System) -> bool:
    held = system.database.sql("SELECT FROM public.jobs_job WHERE token IS NOT NULL LIMIT 1")
    return not held and not system.redis.exists("jobs")
