import signal
import time

from tests.chaos.run import Run
from tests.chaos.scenarios.endings import KILLS

DEPLOY_SECONDS = 25


def web_killed(run: Run) -> None:
    """With an order's rows written and not committed, committed and not answered, and at any moment, all of web."""
    with run.load():
        for _ in range(run.pace.strikes):
            run.strike("written")
            run.strike("ordered")
        run.world.kill("web")
        run.world.heal()


def worker_killed(run: Run) -> None:
    """Under whatever it does; and under one job, as often as makes poison of one that kills its children."""
    with run.load():
        for _ in range(run.pace.strikes):
            run.wait_for_work()
            run.pause(0, 0.2)
            run.world.kill("worker")
            run.world.heal()
    run.wait_for_quiet()
    with run.commands.hold("in-body") as hold:
        run.probes("effect", 1)
        for number in range(1, KILLS + 1):
            hold.wait(at_least=number)
            run.world.kill("worker")
            run.world.heal()


def relay_killed(run: Run) -> None:
    """With jobs marked and not yet published, and in the midst of publishing them."""
    with run.load():
        for point in run.pace.strikes * ["marked", "mid-batch"]:
            run.strike(point)
            run.wait(lambda: not run.world.processes["relay"].running, "the relay's death")
            run.world.heal()


def two_relays_two_workers(run: Run) -> None:
    run.world.start("relay-2", "worker-2")
    with run.load():
        pass
    run.wait_for_quiet()


# A mark on the row of each job that a deploy has counted against it.
COUNT = """
    CREATE TABLE public.chaos_counted (job uuid);
    CREATE FUNCTION public.chaos_count() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO public.chaos_counted VALUES (NEW.id); RETURN NULL; END $$;
    CREATE TRIGGER counted AFTER UPDATE ON public.jobs_job FOR EACH ROW
    WHEN (NEW.kills > OLD.kills OR NEW.lost > OLD.lost) EXECUTE FUNCTION public.chaos_count()
"""
COUNT_NO_MORE = "DROP FUNCTION public.chaos_count() CASCADE; DROP TABLE public.chaos_counted"


def rolling_restart(run: Run) -> None:
    """SIGTERM to one after the other, as a deploy does; and at once to every process there is, as Heroku does.

    No job is counted as killed, or as lost.
    """
    run.world.sql(COUNT)
    try:
        _restart_all(run)
        run.wait_for_quiet()
        counted = run.world.sql("SELECT DISTINCT job FROM public.chaos_counted")
        run.expect(not counted, f"a deploy counted as kills or losses of {len(counted)} jobs")
    finally:
        run.world.sql(COUNT_NO_MORE)


def _restart_all(run: Run) -> None:
    with run.load():
        run.probes("effect", 4, kwargs={"seconds": 0.8})
        for name in run.world.usual:
            _timed(run, name)
            run.world.heal()
        run.probes("effect", 4, kwargs={"seconds": 0.8})
        run.wait_for_work()
        _timed(run, *run.world.usual, every_process=True)
        run.world.heal()


def rolling_deploy(run: Run) -> None:
    """A task was renamed: requests call it by its new name, while a worker of the release before still runs."""
    run.world.kill("worker")
    run.world.start("worker", CHAOS_UNKNOWN="effect")
    with run.load():
        unknown = "SELECT FROM jobs_job WHERE unknown_since IS NOT NULL LIMIT 1"
        run.wait(lambda: run.world.sql(unknown), "a worker did not know a task")
        run.world.start("worker-2")
        stubborn = run.world.halt("worker")
        run.expect(not stubborn, "the worker of the release before did not stop")
    run.over()


def _timed(run: Run, *names: str, every_process: bool = False) -> None:
    began = time.monotonic()
    stubborn = run.world.halt(*names, every_process=every_process)
    seconds = time.monotonic() - began
    run.expect(seconds < DEPLOY_SECONDS, f"{', '.join(stubborn or names)} took {seconds:.0f} s to stop")


def worker_frozen(run: Run) -> None:
    """An order is billed but for the COMMIT, and a call made but not recorded, when the worker falls asleep for longer
    than its leases, and another one takes over; then it wakes up.
    """
    with run.commands.hold("before-complete") as billing, run.commands.hold("after-call") as calling:
        run.orders(1)
        run.probes("call", 1)
        held = billing.wait() + calling.wait()
        run.world.signal_all(signal.SIGSTOP, "worker")
    with run.load():
        run.world.start("worker-2")
        jobs = [event["job"] for event in held]
        ended = "SELECT FROM jobs_job WHERE state = 'waiting' AND id = ANY(%s::uuid[])"
        run.wait(lambda: not run.world.sql(ended, [jobs]), "others took over")
    run.over()
    run.thaw("worker", held)
