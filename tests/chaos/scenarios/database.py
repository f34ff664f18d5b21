import time

from tests.chaos.run import Run

COMMIT = b"COMMIT\0"
CLAIM = b"attempt = attempt +"
# As often as a job could be cut off if each time counted.
CUTS = 4


def postgres_killed(run: Run) -> None:
    with run.load():
        run.pause(0.2 * run.pace.spread, 0.8 * run.pace.spread)
        run.world.postgres.kill()
        time.sleep(run.pace.postgres_down)
        run.world.postgres.start()
        run.over()


def postgres_cut(run: Run) -> None:
    """Replies to COMMITs and claims are lost, COMMITs arrive after their client is cut off, and connections break under
    one and the same job.
    """
    with run.load():
        for pattern, late in ((COMMIT, False), (CLAIM, False), (COMMIT, True)):
            trap = run.world.database.set_trap(pattern, times=run.pace.strikes, late=late)
            run.wait(lambda trap=trap: not trap.times, f"{pattern!r} cut")  # type: ignore[misc]
    run.wait(run.world.is_quiet, "quiet", seconds=run.pace.patience)
    run.probes("effect", 1)
    for _ in range(CUTS):
        with run.commands.hold("in-body") as hold:
            hold.wait()
            run.world.database.reset()
