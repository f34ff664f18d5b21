from tests.peers.shop.settings import *  # noqa: F403
from tests.peers.shop.settings import APPS, DATABASES, MIDDLEWARE, env

DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
DATABASE_ROUTERS = ("django_tenants.routers.TenantSyncRouter",)
MIDDLEWARE.insert(0, "django_tenants.middleware.main.TenantMainMiddleware")
TENANT_MODEL = "customers.Client"
TENANT_DOMAIN_MODEL = "customers.Domain"
SHARED_APPS = ["django_tenants", "tests.peers.tenant_schemas.customers", "django_celery_results"]
TENANT_APPS = APPS
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]

vars().update(env.json("PEER_SETTINGS", default={}))
