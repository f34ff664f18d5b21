"""Runs of schedules: some at a moment of their own, and one each second. Each that is taken is one job, or stands for
one that waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.run import Run
from tests.chaos.world import World

EACH_SECOND = "each second"
ONCE = 6  # for each strike
NO_WORKER_SECONDS = 4
TASK = "tests.chaos.saboteur.tasks.effect"

# The driver's own record, kept by the database: what was dispatched, and when beat says that it took the run.
NOTES = """
    CREATE TABLE public.chaos_run (job uuid, schedule text, taken_at timestamptz, merged boolean);
    CREATE FUNCTION public.chaos_note_run() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.chaos_run
        SELECT NEW.id, name, last_run_at, TG_OP = 'UPDATE' FROM public.django_celery_beat_periodictask
        WHERE starts_with(NEW.schedule, name);
        IF TG_OP = 'INSERT' THEN
            INSERT INTO public.chaos_job (id, home, task, due, doomed)
            VALUES (NEW.id, 'public', NEW.task, NEW.due_at, false);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_dispatched AFTER INSERT ON public.jobs_job
        FOR EACH ROW WHEN (NEW.schedule > '') EXECUTE FUNCTION public.chaos_note_run();
    CREATE TRIGGER chaos_merged AFTER UPDATE OF args ON public.jobs_job
        FOR EACH ROW WHEN (NEW.schedule > '') EXECUTE FUNCTION public.chaos_note_run();
"""
FORGET = """
    DROP TRIGGER chaos_dispatched ON public.jobs_job;
    DROP TRIGGER chaos_merged ON public.jobs_job;
    DROP FUNCTION public.chaos_note_run();
    DROP TABLE public.chaos_run;
    DELETE FROM public.django_celery_beat_periodictask WHERE task = 'tests.chaos.saboteur.tasks.effect';
    UPDATE public.django_celery_beat_periodictasks SET last_update = clock_timestamp();
"""
SCHEDULE = f"""
    INSERT INTO public.django_celery_beat_periodictask (
        name, interval_id, clocked_id, one_off, task, args, kwargs, headers, enabled, total_run_count, description,
        date_changed
    )
    SELECT %s, %s, %s, %s, '{TASK}', '[]', '{{"home": "public"}}', '{{}}', true, 0, '', clock_timestamp()
"""
CHANGED = """
    INSERT INTO public.django_celery_beat_periodictasks VALUES (1, clock_timestamp())
    ON CONFLICT (ident) DO UPDATE SET last_update = excluded.last_update
"""
ONE_WAITS = "SELECT count(*) FROM jobs_job WHERE starts_with(schedule, %s) AND state = 'waiting' AND attempt = 0"
TO_COME = "SELECT FROM django_celery_beat_periodictask WHERE one_off AND enabled LIMIT 1"
TAKEN = "SELECT total_run_count FROM django_celery_beat_periodictask WHERE name = %s"
DISPATCHED = """
    SELECT name, count(job) FROM django_celery_beat_periodictask LEFT JOIN chaos_run ON schedule = name
    WHERE one_off GROUP BY name
"""
GAPS = """
    SELECT taken_at, taken_at - lag(taken_at) OVER (ORDER BY taken_at) < interval '0.9 seconds'
    FROM chaos_run WHERE schedule = %s
"""


def beat_killed(run: Run) -> None:
    """With a run's job written and not committed, committed, and at any moment; then two of them; then no worker."""
    with _noted(run.world):
        spread = run.pace.strikes * 10
        _schedule(run.world, [run.chance.uniform(1, spread) for _ in range(run.pace.strikes * ONCE)])
        with run.load():
            for point in run.pace.strikes * ["run-written", "run-committed", ""]:
                _kill_beat(run, point)
        run.world.start("beat-2")
        run.wait(lambda: not run.world.sql(TO_COME), "all runs that come once")
        _go_without_worker(run)
        run.world.sql("UPDATE django_celery_beat_periodictask SET enabled = false WHERE name = %s", [EACH_SECOND])
        run.over()
        _count(run)
        run.wait_for_quiet()


def _kill_beat(run: Run, point: str) -> None:
    if point:
        run.strike(point)
        run.wait(lambda: not run.world.processes["beat"].running, "beat's death")
    else:
        run.pause(0, 3)
        run.world.kill("beat")
    run.world.heal()


def _go_without_worker(run: Run) -> None:
    """A schedule that is due many times meanwhile has one run that waits."""
    run.world.halt("worker")
    [(before,)] = run.world.sql(TAKEN, [EACH_SECOND])
    run.wait(lambda: run.world.sql(TAKEN, [EACH_SECOND])[0][0] > before + NO_WORKER_SECONDS, "more runs taken")
    [(waiting,)] = run.world.sql(ONE_WAITS, [EACH_SECOND])
    run.faults.twice += [f"{waiting} runs of one schedule wait"] * (waiting > 1)
    run.world.heal()


def _count(run: Run) -> None:
    for name, jobs in run.world.sql(DISPATCHED):
        run.faults.lost += [f"the run {name}"] * (jobs == 0)
        run.faults.twice += [f"the run {name}: {jobs} jobs"] * (jobs > 1)
    [(taken,)] = run.world.sql(TAKEN, [EACH_SECOND])
    runs = run.world.sql(GAPS, [EACH_SECOND])
    run.faults.lost += [f"{taken} runs were taken, {len(runs)} dispatched"] * (len(runs) < taken)
    run.faults.twice += [f"the run of {taken_at} again" for taken_at, is_again in runs if is_again]


@contextmanager
def _noted(world: World) -> Iterator[None]:
    world.sql(NOTES)
    try:
        yield
    finally:
        world.sql(FORGET)


def _schedule(world: World, seconds: list[float]) -> None:
    [(interval,)] = world.sql(
        "INSERT INTO django_celery_beat_intervalschedule (every, period) VALUES (1, 'seconds') RETURNING id"
    )
    world.sql(SCHEDULE, [EACH_SECOND, interval, None, False])
    for number, delay in enumerate(seconds):
        [(clocked,)] = world.sql(
            "INSERT INTO django_celery_beat_clockedschedule (clocked_time)"
            " VALUES (clock_timestamp() + %s * interval '1 second') RETURNING id",
            [delay],
        )
        world.sql(SCHEDULE, [f"once, the {number:03}.", None, clocked, True])
    world.sql(CHANGED)
