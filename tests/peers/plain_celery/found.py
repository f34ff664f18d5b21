"""`python -m tests.peers.plain_celery.found acme globex`: a user each, all in one schema; prints their tokens."""

import json
import sys

import django

django.setup()

from tests.peers.shop.people import sign_up  # noqa: E402

print(json.dumps({slug: sign_up(slug) for slug in sys.argv[1:]}))
