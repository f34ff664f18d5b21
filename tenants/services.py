"""What happens to a tenant: registration, its schema, and its status."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django_tenants.utils import schema_context

from tenants.connection import connection
from tenants.errors import Conflict, violated_constraint
from tenants.models import Domain, QuarantinedDomain, Tenant
from tenants.schemas import find_missing, make_schema
from tenants.slots import making_slot


def register_tenant(*, name: str, slug: str, timezone: str = "UTC", is_confirmed: bool = True) -> Tenant:
    """Write a new tenant, which is `provisioning`, and its domain. Its schema comes later.

    It counts as confirmed, unless it is told that an owner has to confirm their address first.

    Needs the caller's transaction. Raises Conflict if the slug is taken, or its domain in quarantine.
    """
    tenant = Tenant(name=name, slug=slug, timezone=timezone, is_confirmed=is_confirmed)
    # A slug may come again after a deletion. The id keeps the schema's name unique for ever.
    tenant.schema_name = f"{slug.replace('-', '_')}_{tenant.id.hex[-12:]}"
    try:
        with transaction.atomic():
            tenant.save()
            Domain.objects.create(tenant=tenant, domain=domain_of(slug), is_primary=True)
    except IntegrityError as error:
        if violated_constraint(error) in ("tenant_slug_unique", "tenants_domain_domain_key"):
            raise _slug_taken(slug) from error
        raise
    except Conflict as error:
        raise _slug_taken(slug) from error
    return tenant


def domain_of(slug: str) -> str:
    """The host of the tenant with this slug, without a port."""
    return f"{slug}.{settings.BASE_DOMAIN}"


def origin_of(slug: str) -> str:
    """Where people reach the tenant with this slug: scheme, host and port, as the settings have them.

    Not as a request has them: a client chooses the port of its Host header, and mails go to others.
    """
    return f"{settings.SCHEME}://{domain_of(slug)}{settings.PORT}"


def _slug_taken(slug: str) -> Conflict:
    if Tenant.objects.filter(slug=slug, status=Tenant.Status.FAILED).exists():
        return Conflict(
            f"{slug!r} was signed up, but could not be set up. Ask the platform's staff, or choose another.",
            code="sign_up_failed",
        )
    return Conflict(f"{slug!r} is taken; choose another.", code="slug_taken")


def update_tenant(tenant: Tenant, *, name: str | None = None, timezone: str | None = None) -> Tenant:
    """Change what is not None. Returns the tenant as it is now. Works in the tenant's schema, too."""
    changes = {field: value for field, value in (("name", name), ("timezone", timezone)) if value is not None}
    with schema_context("public"):
        if changes:
            Tenant.objects.filter(pk=tenant.pk).update(**changes)
        return Tenant.objects.get(pk=tenant.pk)


def confirm_tenant(tenant: Tenant) -> bool:
    """Note that an owner has confirmed their address. Returns whether nobody had. Works in the tenant's schema, too."""
    with schema_context("public"):
        return bool(Tenant.objects.filter(pk=tenant.pk, is_confirmed=False).update(is_confirmed=True))


def create_schema(tenant: Tenant, *, wait: bool = True) -> None:
    """Create the tenant's schema if it is missing, and bring its tables up to date. Safe to repeat and to overlap.

    If others make as many as may be made at once, wait for a slot, or raise NoSlot. Call it outside of a transaction,
    because migrations commit as they go.
    """
    with connection.direct():
        if find_missing([tenant.schema_name]):
            with making_slot(wait=wait):
                make_schema(tenant.schema_name)


def activate_tenant(tenant: Tenant) -> bool:
    """Make a tenant active whose schema is complete. Returns False and does nothing if it isn't waiting for that.

    A failed tenant becomes active, too: its provisioning may be tried again, and then succeed.
    """
    return _try_to_move(tenant, to=Tenant.Status.ACTIVE, after=(Tenant.Status.PROVISIONING, Tenant.Status.FAILED))


def fail_tenant(tenant: Tenant, *, reason: str) -> bool:
    """Give up provisioning, and keep the reason. Returns False and does nothing if the tenant isn't provisioning."""
    return _try_to_move(tenant, to=Tenant.Status.FAILED, after=(Tenant.Status.PROVISIONING,), failure=reason)


def restart_tenant(tenant: Tenant) -> None:
    """Let a failed tenant be provisioned again. Staff decides that, so it counts as confirmed.

    Raises Conflict if it hasn't failed.
    """
    _move(tenant, to=Tenant.Status.PROVISIONING, after=(Tenant.Status.FAILED,), is_confirmed=True)


def suspend_tenant(tenant: Tenant, *, reason: str = "") -> None:
    """Stop serving an active tenant: its hosts answer 403, its jobs wait. Raises Conflict if it isn't active.

    The reason is for staff, who sees it in the admin.
    """
    _move(tenant, to=Tenant.Status.SUSPENDED, after=(Tenant.Status.ACTIVE,), failure=reason)


def resume_tenant(tenant: Tenant) -> None:
    """Serve a suspended tenant again. Staff decides that, so it counts as confirmed.

    Raises Conflict if it isn't suspended.
    """
    _move(tenant, to=Tenant.Status.ACTIVE, after=(Tenant.Status.SUSPENDED,), is_confirmed=True)


def delete_tenant(tenant: Tenant, *, quarantine: bool = True) -> None:
    """Begin to delete a tenant for good. The relay awaits its running jobs, then drops its schema and its rows.

    Its domains go into quarantine, unless it was never served or `quarantine` is False. Raises Conflict while it is
    being provisioned, because a schema that is being made can't be dropped.
    """
    served = (Tenant.Status.ACTIVE, Tenant.Status.SUSPENDED)
    with transaction.atomic():
        was_served = Tenant.objects.select_for_update(no_key=True).filter(pk=tenant.pk, status__in=served).first()
        _move(tenant, to=Tenant.Status.DELETING, after=(*served, Tenant.Status.FAILED))
        if was_served and quarantine:
            _quarantine_domains(tenant)


def _quarantine_domains(tenant: Tenant) -> None:
    """Keep the tenant's domains from others for HOST_QUARANTINE_DAYS. Forget the ones whose time is over."""
    over = QuarantinedDomain.objects.select_for_update(skip_locked=True).filter(until__lte=Now())
    QuarantinedDomain.objects.filter(pk__in=over.values("pk")).delete()

    until = Now() + timedelta(days=settings.HOST_QUARANTINE_DAYS)
    QuarantinedDomain.objects.bulk_create(
        [QuarantinedDomain(domain=domain.domain, until=until) for domain in Domain.objects.filter(tenant=tenant)],
        update_conflicts=True,
        unique_fields=["domain"],
        update_fields=["until"],
    )


def _move(tenant: Tenant, *, to: Tenant.Status, after: tuple[Tenant.Status, ...], **changes: Any) -> None:
    if not _try_to_move(tenant, to=to, after=after, **changes):
        tenant.refresh_from_db(fields=["status"])
        raise Conflict(
            f"{tenant.slug} is {tenant.status}; only a tenant that is {' or '.join(after)} can become {to}.",
            code="illegal_status",
        )


def _try_to_move(tenant: Tenant, *, to: Tenant.Status, after: tuple[Tenant.Status, ...], **changes: Any) -> bool:
    """Change the status, and with it other fields. Without a reason, `failure` is emptied."""
    changes = {"status": to, "failure": "", **changes}
    moved = Tenant.objects.filter(pk=tenant.pk, status__in=after).update(**changes)
    if moved:
        for name, value in changes.items():
            setattr(tenant, name, value)
    return bool(moved)


def current_tenant() -> Tenant:
    """The tenant whose schema the connection is in. Raises Tenant.DoesNotExist in `public`."""
    # Names the schema of the table, because the search path has the tenant's schema alone.
    query = 'SELECT * FROM "public"."tenants_tenant" WHERE schema_name = %s'
    found = list(Tenant.objects.raw(query, [connection.schema_name]))
    if not found:
        name = connection.schema_name
        raise Tenant.DoesNotExist(f"{name!r} is no tenant's schema; call this inside a tenant_context")
    return found[0]
