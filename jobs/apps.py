"""Connects what has to happen before a worker or beat starts, and after each task."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The app `jobs`."""

    name = "jobs"

    def ready(self) -> None:
        """Connect to Celery's signals."""
        from celery.signals import beat_init, task_postrun, task_prerun, worker_before_create_process, worker_init

        from jobs import checks, schema, task
        from jobs.worker import last_resort, memory

        worker_init.connect(schema.bind_worker, dispatch_uid="jobs.bind_worker")
        worker_init.connect(checks.refuse_to_start, dispatch_uid="jobs.refuse_to_start")
        worker_init.connect(last_resort.install, dispatch_uid="jobs.end_in_time")
        worker_before_create_process.connect(memory.keep_shared, dispatch_uid="jobs.keep_shared")
        beat_init.connect(checks.refuse_to_start_beat, dispatch_uid="jobs.refuse_to_start_beat")
        task_prerun.connect(task.name_in_log, dispatch_uid="jobs.name_in_log")
        task_postrun.connect(task.leave_schema, dispatch_uid="jobs.leave_schema")
