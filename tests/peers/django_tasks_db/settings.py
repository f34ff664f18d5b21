from tests.peers.postgresql import *  # noqa: F403
from tests.peers.postgresql import INSTALLED_APPS as WORK

# The first is Django 6's framework for Django 5.2.
INSTALLED_APPS = ["django_tasks", "django_tasks_db", *WORK]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default"]}}
