from config.settings import *  # noqa: F403
from config.settings import DATABASES
from config.settings import INSTALLED_APPS as PRODUCT_APPS
from config.settings import MIDDLEWARE as PRODUCT_MIDDLEWARE

DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
DATABASE_ROUTERS = []
MIDDLEWARE = [name for name in PRODUCT_MIDDLEWARE if name != "tenants.middleware.TenantMiddleware"]
# Its app checks that there are tenants; its models need no app.
PLAIN = {"tenants": "bench.untenanted.apps.TenantsConfig"}
INSTALLED_APPS = [PLAIN.get(name, name) for name in PRODUCT_APPS if name != "django_tenants"]
# The stock ones
CELERY_BROKER_TRANSPORT = "kombu.transport.redis:Transport"
CELERY_RESULT_BACKEND = "django-db"
CELERY_WORKER_CONSUMER = "celery.worker.consumer:Consumer"
