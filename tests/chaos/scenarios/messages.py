import os
import signal

from devstack import CHECKOUT
from tests.chaos.run import Run

HOUR = 3600
SKEWED = CHECKOUT / "tests" / "chaos" / "skewed"


def delivered_twice(run: Run) -> None:
    with run.commands.always("twice"):
        with run.load():
            pass
        for _ in range(run.pace.strikes):
            run.wait_for_quiet()
            _kill_the_second(run)
        run.wait_for_quiet()


def _kill_the_second(run: Run) -> None:
    """One child runs the job. Another, which got the same message, is killed; its parent has no lease to give back."""
    holder = "SELECT token FROM jobs_job WHERE id = %s"
    with run.commands.hold("after-call"), run.commands.hold("refused") as hold:
        # The pool may see some seconds late that a child is gone: no time limit, and none of a transaction's, must come
        # before that.
        [job] = run.probes("call", 1, time_limit=60, soft_time_limit=50)
        [refused] = hold.wait()
        run.wait_for("accepted", job=job, child=refused["pid"])
        token = run.world.sql(holder, [job])
        os.kill(refused["pid"], signal.SIGKILL)
        run.wait_for("handed-back", job=job, child=refused["pid"])
        freed = run.world.sql(holder, [job]) != token
        run.faults.twice += [f"{job} was free while it ran"] * freed


def delivered_early(run: Run) -> None:
    """Every message that is not due yet is sent all the same, again and again."""
    with run.commands.always("early"):
        run.probes("effect", len(run.tenants), countdown=run.pace.hard_limit)
        with run.load():
            pass
        run.wait_for_quiet()


def clock_skew(run: Run) -> None:
    """The clock of one of two workers is an hour ahead, and what is not due yet reaches it all the same."""
    run.world.start("worker-2", PYTHONPATH=f"{SKEWED}:{CHECKOUT}", CHAOS_SKEW=str(HOUR))
    delivered_early(run)
