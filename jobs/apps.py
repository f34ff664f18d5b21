"""Connects what has to happen before a worker starts and after each task."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The app `jobs`."""

    name = "jobs"

    def ready(self) -> None:
        """Connect to Celery's signals."""
        from celery.signals import task_postrun, worker_init, worker_ready

        from jobs import checks, schema, task
        from jobs.worker import heartbeat

        worker_init.connect(schema.bind_worker, dispatch_uid="jobs.bind_worker")
        worker_init.connect(checks.refuse_to_start, dispatch_uid="jobs.refuse_to_start")
        task_postrun.connect(task.leave_schema, dispatch_uid="jobs.leave_schema")
        worker_ready.connect(heartbeat.start, dispatch_uid="jobs.heartbeat")
