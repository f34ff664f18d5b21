from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS as PRODUCT_APPS
from config.settings import SHARED_APPS as PRODUCT_SHARED_APPS
from config.settings import TENANT_APPS as PRODUCT_TENANT_APPS

ROOT_URLCONF = "bench.tenantry.urls"
SHARED_APPS = [*PRODUCT_SHARED_APPS, "bench.work"]
TENANT_APPS = [*PRODUCT_TENANT_APPS, "bench.work"]
INSTALLED_APPS = [*PRODUCT_APPS, "bench.work"]
