"""The product's settings, and one app more: the saboteur."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS as PRODUCT_APPS

INSTALLED_APPS = [*PRODUCT_APPS, "tests.chaos.saboteur"]
ROOT_URLCONF = "tests.chaos.saboteur.urls"
