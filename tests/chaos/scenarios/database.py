import time
from typing import Any

from tests.chaos.proxy import Trap
from tests.chaos.run import Run

COMMIT = b"COMMIT\0"
CLAIM = b"public.jobs_claim"
END_OF_JOB = b"public.jobs_complete"
# As often as a job could be cut off if each time counted.
CUTS = 4


def postgres_killed(run: Run) -> None:
    """Under load, while all children are idle, and under a job that is about to call the outside world."""
    with run.load():
        run.pause(0.2 * run.pace.spread, 0.8 * run.pace.spread)
        run.world.postgres.kill()
        time.sleep(run.pace.postgres_down)
        run.world.postgres.start()
    run.wait_for_quiet()
    _kill_under_idle_children(run)
    run.wait_for_quiet()
    _kill_after_a_claim(run)
    run.over()


def _kill_under_idle_children(run: Run) -> None:
    """Each one's session has served, and is dead at its next claim."""
    with run.commands.hold("in-body") as hold:
        run.probes("effect", 2)
        hold.wait(at_least=2)
    run.wait_for_quiet()
    run.world.postgres.kill()
    run.world.postgres.start()
    run.probes("effect", 2)


def _kill_after_a_claim(run: Run) -> None:
    """What has been called may not look as if it had never begun: it could be cancelled, and poison would not count."""
    run.world.postgres.execute("ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
    with run.commands.hold("after-claim") as hold:
        [job] = run.probes("call", 1)
        hold.wait()
        run.world.postgres.kill()
    run.world.postgres.start()
    forgotten = run.world.sql("SELECT FROM jobs_job WHERE id = %s AND attempt = 0", [job])
    run.faults.lost += [f"the claim of {job}"] * len(forgotten)


def postgres_cut(run: Run) -> None:
    """Replies to COMMITs and claims are lost, COMMITs arrive after their client is cut off, and connections break under
    one and the same job.
    """
    with run.load():
        for trap in (
            Trap(COMMIT),
            Trap(CLAIM),
            Trap(COMMIT, after=END_OF_JOB),
            Trap(COMMIT, after=END_OF_JOB, late=True),
        ):
            _spring(run, trap, times=run.pace.strikes)
    run.wait_for_quiet()
    _cut_off_again_and_again(run)
    run.wait_for_quiet()
    # Who repeats its claim is the one that the lease is held for, however long that lasts.
    _spring(run, Trap(CLAIM), time_limit=2 * run.pace.patience)


def _spring(run: Run, trap: Trap, *, times: int = 1, **options: Any) -> None:
    trap.times = times
    run.world.database.trap = trap
    run.probes("effect", 2 * times, **options)
    run.wait(lambda: not trap.times, f"{trap} sprung")


def _cut_off_again_and_again(run: Run) -> None:
    """One job, in the middle of its body."""
    for number in range(CUTS):
        with run.commands.hold("in-body") as hold:
            if number == 0:
                # It reaches the point a while after its body begins, when the next hold is on.
                run.probes("effect", 1, kwargs={"seconds": 0.3})
            held = hold.wait()
            run.world.database.reset()
        run.wait_until_left(held)
