"""What the settings of both peers have in common: Celery as its guide for Django has it.

PEER_SETTINGS, a JSON object, takes the place of any of them; PEER_APPS adds to the apps.
"""

from typing import Any

import environ

env = environ.Env()

SECRET_KEY = "peer"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.peers.shop.urls"
APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_results",
    "knox",
    "tests.peers.shop",
    *env.list("PEER_APPS", default=[]),
]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES: dict[str, dict[str, Any]] = {
    "default": {**env.db("DATABASE_URL"), "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True},
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["knox.auth.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer"}

CELERY_BROKER_URL = env("REDIS_URL")
CELERY_RESULT_BACKEND = "django-db"
CELERY_TIMEZONE = TIME_ZONE
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_TIME_LIMIT = 30 * 60

vars().update(env.email("EMAIL_URL"))
CARD_GATEWAY_URL = env("CARD_GATEWAY_URL")
CARD_GATEWAY_TIMEOUT = 5
RETRY_DATABASE_ERRORS = False
