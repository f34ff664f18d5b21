from tests.chaos.proxy import Mode
from tests.chaos.run import Run

# Whatever the broker is like, a request that waits for its cache does so once, and briefly.
SERVED_SECONDS = 3


def broker_down(run: Run) -> None:
    run.world.broker.turn(Mode.CUT)
    with run.load(spread=run.pace.broker_down):
        pass
    run.world.broker.turn(Mode.PASS)
    run.over()
    run.expect_served(within=SERVED_SECONDS)


def broker_emptied(run: Run) -> None:
    """Killed while jobs wait, some of them in its queue; what comes back knows nothing."""
    run.world.halt("worker")
    run.probes("effect", run.pace.waiting)
    run.wait(lambda: run.world.queued() > 0, "messages in the queue")
    run.world.empty_broker()
    run.over()


def broker_black_hole(run: Run) -> None:
    """Nothing refused, nothing answered; connections from before never live again. Then a slow one, and resets."""
    run.world.broker.turn(Mode.HOLE)
    with run.load(spread=run.pace.broker_hole):
        pass
    run.expect_served(within=SERVED_SECONDS)
    run.world.broker.turn(Mode.SLOW)
    with run.load():
        for _ in range(run.pace.strikes):
            run.pause(0.1, 0.5)
            run.world.broker.reset()
    run.world.broker.turn(Mode.PASS)
    run.over()
