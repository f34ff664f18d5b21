"""The provisioning of a tenant that signed up: its schema, its owner, the owner's link. In the public schema."""

from typing import Any

from django_tenants.utils import tenant_context

from accounts.links import Purpose, send_link
from accounts.models import User
from tenants.models import SignUp, Tenant
from tenants.services import activate_tenant, create_schema, fail_tenant


def prepare_tenant(*, tenant_id: str) -> None:
    """Make the schema of a tenant that signed up and is not open yet. Does nothing for any other tenant.

    Call it outside of a transaction. Raises NoSlot if others make as many as may be made at once.
    """
    if signing_up := SignUp.objects.select_related("tenant").filter(tenant_id=tenant_id).first():
        create_schema(signing_up.tenant, wait=False)


def open_tenant(*, tenant_id: str) -> dict[str, Any] | None:
    """Activate a tenant, and write its owner and the mail with the link to confirm their address.

    Returns the tenant's slug and the jobs that were dispatched, or None if the tenant isn't waiting for that. Needs the
    caller's transaction, in the public schema.
    """
    signing_up = SignUp.objects.select_related("tenant").filter(tenant_id=tenant_id).first()
    if signing_up is None or not activate_tenant(signing_up.tenant):
        return None
    tenant = signing_up.tenant
    with tenant_context(tenant):
        job_id = _create_owner(signing_up)
    signing_up.delete()
    return {"tenant": tenant.slug, "jobs": [job_id]}


def _create_owner(signing_up: SignUp) -> str:
    """Write the owner in the tenant's schema. Returns the id of the mail's job."""
    owner = User(
        email=signing_up.email,
        full_name=signing_up.full_name,
        password=signing_up.password_hash,
        role=User.Role.OWNER,
        is_confirmed=False,
    )
    owner.save(force_insert=True)
    return send_link(owner, purpose=Purpose.CONFIRM_ADDRESS)


def give_up_tenant(*, tenant_id: str, reason: str) -> None:
    """Make a tenant that is being provisioned failed, and keep the reason. Needs the public schema."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is not None:
        fail_tenant(tenant, reason=reason)
