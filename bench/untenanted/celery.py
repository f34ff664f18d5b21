from functools import partial
from typing import Any

from celery import Celery
from celery.contrib.django.task import DjangoTask
from celery.utils import uuid
from django.db import transaction

# Imported first, for importing it makes its app the default one.
import config  # noqa: F401


class PlainTask(DjangoTask):  # type: ignore[misc]  # Celery has no types
    def delay_on_commit(self, *args: Any, **kwargs: Any) -> str:
        """As Celery's own, which returns no id; the view tells it."""
        task_id = str(uuid())
        transaction.on_commit(partial(self.apply_async, args, kwargs, task_id=task_id))
        return task_id


app = Celery("untenanted", task_cls=PlainTask)
# For all threads. The current app is the main thread's alone.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
