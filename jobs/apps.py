from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        from celery.signals import task_postrun

        from jobs import checks, task  # noqa: F401  # importing `checks` registers them

        task_postrun.connect(task.leave_schema, dispatch_uid="jobs.leave_schema")
