import os

from django.core.wsgi import get_wsgi_application

from tenants.wsgi import OwnContext

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = OwnContext(get_wsgi_application())
