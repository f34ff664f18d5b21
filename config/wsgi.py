import os

from django.core.wsgi import get_wsgi_application

from config.bodies import ReadableBodies
from tenants.role import EXIT_CODE, verify_role_when_there
from tenants.wsgi import OwnContext

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = OwnContext(ReadableBodies(get_wsgi_application()))

from jobs.checks import refuse_errors  # noqa: E402  # it needs Django

# In each of gunicorn's processes, at its start
refuse_errors(exit_code=EXIT_CODE)
verify_role_when_there()
