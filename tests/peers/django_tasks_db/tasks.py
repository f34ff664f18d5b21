from django_tasks import task

from bench.work import bodies


@task()
def look_and_tell(home: str) -> str:
    bodies.look(home)
    return home


@task()
def record(home: str, number: int) -> None:
    bodies.record(number)


@task()
def note_start() -> None:
    bodies.note_start()
