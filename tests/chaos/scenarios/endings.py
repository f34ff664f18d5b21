from collections import Counter

from tests.chaos.run import Run

KILLS = 3


def poison(run: Run) -> None:
    """A job that kills whoever runs it is dead after the third time, and nobody else's concern."""
    poisoned = run.probes("kills", 2, doomed=True)
    with run.load():
        pass
    run.wait_for_quiet()
    bodies = Counter(event["job"] for event in run.commands.events("began"))
    for job in poisoned:
        [(kills, lost)] = run.world.sql("SELECT kills, lost FROM jobs_job WHERE id = %s", [job])
        run.expect(kills == KILLS, f"{job} was killed {kills} times")
        # A busy parent may see a child's death when the lease is over: that attempt is lost, and no kill.
        run.expect(bodies[job] == kills + lost, f"{job} ran {bodies[job]} times, {lost} of them lost")


def hard_limit(run: Run) -> None:
    """Deaf to the soft limit: killed by the pool, and dead, without a trace of what the body did in its transaction."""
    hogs = [job for probe in ("hogs", "hogs_outside") for job in run.probes(probe, run.pace.strikes, doomed=True)]
    with run.load():
        pass
    run.wait_for_quiet()
    bodies = Counter(event["job"] for event in run.commands.events("began"))
    run.faults.twice += [f"{job} went on after its hard limit" for job in hogs if bodies[job] > 1]
