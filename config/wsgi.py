import os

from django.core.wsgi import get_wsgi_application

from config.bodies import ReadableBodies
from tenants.role import verify_role_when_there
from tenants.wsgi import OwnContext

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = OwnContext(ReadableBodies(get_wsgi_application()))
# In each of gunicorn's processes, at its start
verify_role_when_there()
