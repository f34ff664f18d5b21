"""The provisioning of a tenant that signed up: its schema, its owner, its welcome mail. In the public schema."""

from typing import Any

from django_tenants.utils import tenant_context

from accounts.mails import send_welcome
from accounts.models import User
from tenants.models import SignUp, Tenant
from tenants.services import activate_tenant, create_schema, fail_tenant


def prepare_tenant(*, tenant_id: str) -> None:
    """Make the schema of a tenant that is being provisioned, outside of a transaction; nothing for any other tenant."""
    if signing_up := SignUp.objects.select_related("tenant").filter(tenant_id=tenant_id).first():
        create_schema(signing_up.tenant)


def open_tenant(*, tenant_id: str) -> dict[str, Any] | None:
    """Activate a tenant, with its owner and the owner's welcome mail; None if it isn't waiting for that.

    Needs the caller's transaction, in the public schema.
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
    """The owner, in the tenant's schema; the id of the welcome mail's job."""
    owner = User(
        email=signing_up.email, full_name=signing_up.full_name, password=signing_up.password_hash, role=User.Role.OWNER
    )
    owner.save(force_insert=True)
    return send_welcome(owner, template="welcome_owner", login_url=signing_up.login_url)


def give_up_tenant(*, tenant_id: str, reason: str) -> None:
    """Let a tenant that is being provisioned be failed, and keep the reason. Needs the public schema."""
    for tenant in Tenant.objects.filter(pk=tenant_id):
        fail_tenant(tenant, reason=reason)
