import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.peers.plain_celery.settings")

application = get_wsgi_application()
