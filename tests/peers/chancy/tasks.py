from chancy import QueuedJob, job

from bench.work import bodies


@job()
def look_and_tell(*, home: str, context: QueuedJob) -> None:
    """It keeps no results, but what a job puts here; its own backend for Django's tasks does the same."""
    bodies.look(home)
    context.meta["result"] = home


@job()
def record(*, home: str, number: int) -> None:
    bodies.record(number)


@job()
def note_start() -> None:
    bodies.note_start()
