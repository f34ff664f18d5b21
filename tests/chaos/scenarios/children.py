"""A worker's child, killed -9 under a job; each job at most once, for more would make it poison."""

from tests.chaos.run import Run


def child_killed_atomic(run: Run) -> None:
    """In its body, and with its transaction complete but for the COMMIT."""
    # More of them, for an order's job would leave no trace of running again.
    _strike(run, "in-body", "atomic-before-complete", "atomic-before-commit", times=2 * run.pace.strikes)


def child_killed_leased_before_call(run: Run) -> None:
    _strike(run, "after-claim", "before-charge", "before-mail", "before-call")


def child_killed_leased_after_call(run: Run) -> None:
    """The card is charged or the mail is out, and nobody knows."""
    _strike(run, "after-charge", "after-mail", "after-call", "open-before-commit")


def child_killed_after_commit(run: Run) -> None:
    """The job is complete, and its message not acknowledged."""
    # As above.
    _strike(run, "after-commit", times=3 * run.pace.strikes)


def _strike(run: Run, *points: str, times: int = 0) -> None:
    with run.load():
        run.strike(*points, times=times or max(2, run.pace.strikes // len(points)))
