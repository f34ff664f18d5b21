from devstack import CHECKOUT
from tests.chaos.run import Run

HOUR = 3600
SKEWED = CHECKOUT / "tests" / "chaos" / "skewed"


def delivered_twice(run: Run) -> None:
    """One child runs the job; another, which got the same message, is killed."""
    with run.commands.always("twice"):
        with run.load():
            pass
        for _ in range(run.pace.strikes):
            run.wait(run.world.is_quiet, "quiet", seconds=run.pace.patience)
            run.commands.kill_at("refused")
            run.probes("effect", 1, kwargs={"seconds": 0.8 * run.pace.soft_limit})
        run.wait(run.world.is_quiet, "quiet", seconds=run.pace.patience)


def delivered_early(run: Run) -> None:
    """Every message that is not due yet is sent all the same, again and again."""
    with run.commands.always("early"):
        run.probes("effect", len(run.tenants), countdown=run.pace.hard_limit)
        with run.load():
            pass
        run.wait(run.world.is_quiet, "quiet", seconds=run.pace.patience)


def clock_skew(run: Run) -> None:
    """The clock of one of two workers is an hour ahead, and what is not due yet reaches it all the same."""
    run.world.start("worker-2", PYTHONPATH=f"{SKEWED}:{CHECKOUT}", CHAOS_SKEW=str(HOUR))
    delivered_early(run)
