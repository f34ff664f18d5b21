import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.peers.chancy.settings")

import django

django.setup()

from chancy import Chancy  # noqa: E402
from django.conf import settings  # noqa: E402

chancy_app = Chancy(settings.DATABASES["default"])
