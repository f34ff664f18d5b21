from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django_tenants.utils import quote_schema_name

from tenants.models import Domain, Tenant


def register_tenant(*, name: str, slug: str, timezone: str = "UTC") -> Tenant:
    """Write a new tenant, `provisioning`, and its domain; its schema comes later.

    Needs the caller's transaction. Raises IntegrityError if the slug is taken.
    """
    tenant = Tenant(name=name, slug=slug, timezone=timezone)
    # The id makes the name unique for ever: a slug may come again after a deletion, the schema's name never does.
    tenant.schema_name = f"{slug.replace('-', '_')}_{tenant.id.hex[-12:]}"
    tenant.save()
    Domain.objects.create(tenant=tenant, domain=f"{slug}.{settings.BASE_DOMAIN}", is_primary=True)
    return tenant


def create_schema(tenant: Tenant) -> None:
    """Create the tenant's schema if it is missing, and bring its tables up to date. Safe to repeat.

    Not inside a transaction: migrations commit as they go.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_schema_name(tenant.schema_name)}")
    call_command("migrate_schemas", tenant=True, schema_name=tenant.schema_name, interactive=False, verbosity=0)
    connection.set_schema_to_public()


def current_tenant() -> Tenant:
    """The tenant whose schema the connection is in; raises Tenant.DoesNotExist in `public`."""
    # The search path is the tenant's schema alone, in which the plain name of the table does not resolve.
    query = 'SELECT * FROM "public"."tenants_tenant" WHERE schema_name = %s'
    for tenant in Tenant.objects.raw(query, [connection.schema_name]):
        return tenant
    raise Tenant.DoesNotExist(f"{connection.schema_name!r} is no tenant's schema; call this inside a tenant_context")
