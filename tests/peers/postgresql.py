"""What the settings of the peers that keep their jobs in PostgreSQL have in common."""

import environ

env = environ.Env()

SECRET_KEY = "peer"
INSTALLED_APPS = ["bench.work"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {**env.db("DATABASE_URL"), "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}}
# As much as `celery worker -l INFO` tells.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
