from typing import Any

from procrastinate.contrib.django import app

from bench.work import bodies


@app.task
def look_and_tell(home: str) -> str:
    """It logs results, and keeps none."""
    bodies.look(home)
    return home


@app.task
def record(home: str, number: int) -> None:
    bodies.record(number)


@app.task
def note_start() -> None:
    bodies.note_start()


@app.periodic(cron="*/10 * * * *")
@app.task(queueing_lock="retry_stalled_jobs", pass_context=True)
async def retry_stalled_jobs(context: Any, timestamp: int) -> None:
    """As often as the guide has it."""
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)
