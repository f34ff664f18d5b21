from tests.peers.postgresql import *  # noqa: F403
from tests.peers.postgresql import INSTALLED_APPS as WORK

INSTALLED_APPS = ["procrastinate.contrib.django", *WORK]
# It would look for tasks in all apps, and the work's are Celery's.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = ""
PROCRASTINATE_IMPORT_PATHS = ["tests.peers.procrastinate.tasks"]
