"""`python -m tests.peers.tenant_schemas.found acme globex`: a tenant each, with a user; prints the users' tokens."""

import json
import sys

import django

django.setup()

from django_tenants.utils import tenant_context  # noqa: E402

from tests.peers.shop.people import sign_up  # noqa: E402
from tests.peers.tenant_schemas.customers.models import Client, Domain  # noqa: E402


def found(slug: str) -> str:
    client = Client.objects.create(schema_name=slug.replace("-", "_"), name=slug)
    Domain.objects.create(domain=f"{slug}.localhost", tenant=client, is_primary=True)
    with tenant_context(client):
        return sign_up(slug)


print(json.dumps({slug: found(slug) for slug in sys.argv[1:]}))
