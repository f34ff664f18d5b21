"""The product's settings, with the views of tests/tenants/urls_of_owners.py on every host."""

from config.settings import *  # noqa: F403
from config.settings import MIDDLEWARE as PRODUCT_MIDDLEWARE

ROOT_URLCONF = PUBLIC_SCHEMA_URLCONF = "tests.tenants.urls_of_owners"
MIDDLEWARE = ["tests.tenants.urls_of_owners.RaisesEarly", *PRODUCT_MIDDLEWARE]
