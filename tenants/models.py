"""Tenants, their hosts, their sign-ups, and schemas for tenants to come. All of it is in `public`."""

from typing import Any, ClassVar

from django.db import models, transaction
from django.db.models.functions import Now
from django_tenants.models import DomainMixin, TenantMixin

from tenants.errors import Conflict
from tenants.ids import new_id
from tenants.text import normalize_host, normalize_name
from tenants.validators import (
    MAX_SLUG_LENGTH,
    clean_field,
    validate_not_reserved,
    validate_printable,
    validate_slug,
    validate_timezone,
)


class Tenant(TenantMixin):
    """An organisation. Its rows live in the PostgreSQL schema `schema_name`, which no other tenant ever gets."""

    class Status(models.TextChoices):
        """Only an active tenant is served, and only its jobs run. tenants/services.py has the transitions."""

        PROVISIONING = "provisioning"
        ACTIVE = "active"
        SUSPENDED = "suspended"
        DELETING = "deleting"
        FAILED = "failed"

    auto_create_schema = False

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=200, validators=[validate_printable])
    slug = models.CharField(max_length=MAX_SLUG_LENGTH, validators=[validate_slug, validate_not_reserved])
    status = models.CharField(max_length=20, choices=Status, default=Status.PROVISIONING, editable=False)
    failure = models.TextField(blank=True, editable=False, help_text="Why provisioning failed")
    timezone = models.CharField(max_length=64, default="UTC", validators=[validate_timezone])
    is_confirmed = models.BooleanField(
        default=True,
        db_default=True,
        editable=False,
        help_text="Whether an owner has confirmed their address: until then it goes after UNCONFIRMED_DAYS",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    # Declared for mypy, because django-tenants has no types.
    objects: ClassVar[models.Manager["Tenant"]] = models.Manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["slug"], name="tenant_slug_unique"),)
        # To delete a tenant for good is Django's own `delete_tenant`.
        permissions = (("suspend_tenant", "Can suspend and resume tenant"),)

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        """Bring the name to the form in which it is stored, for the admin."""
        super().clean()
        self.name = clean_field("name", normalize_name, self.name)


class Domain(DomainMixin):
    """A host name that leads to a tenant, without port, in lower case."""

    # Declared for mypy, because django-tenants has no types.
    domain: str

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's, in the form in which hosts are looked up. Raises Conflict for a domain that is in quarantine."""
        self.domain = normalize_host(self.domain)
        with transaction.atomic():
            super().save(*args, **kwargs)
            # Afterwards: if this waited for the deletion of the tenant that had the domain, it sees the quarantine.
            if QuarantinedDomain.objects.filter(domain=self.domain, until__gt=Now()).exists():
                raise Conflict(f"{self.domain} belonged to a tenant that was deleted.", code="slug_taken")


class QuarantinedDomain(models.Model):
    """A domain of a deleted tenant. Nobody gets it until then, and staff may free it earlier."""

    domain = models.CharField(max_length=253, primary_key=True)
    until = models.DateTimeField()

    class Meta:
        verbose_name = "domain in quarantine"
        verbose_name_plural = "domains in quarantine"

    def __str__(self) -> str:
        return self.domain


class SignUp(models.Model):
    """The owner-to-be of a tenant that is being provisioned; the row goes when the owner exists."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True)
    email = models.EmailField()
    full_name = models.CharField(max_length=200)
    password_hash = models.CharField(max_length=256)
    # Nothing reads it any more. The release before this one writes it, and the next one removes it.
    login_url = models.URLField(default="", blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.email} ({self.tenant})"


class Spare(models.Model):
    """A schema that was migrated in advance, for a tenant to come. No host leads there, and nothing runs in it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    ready = models.BooleanField(default=False, help_text="False while it is being migrated, and for good if that fails")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.schema_name

    @property
    def schema_name(self) -> str:
        """The name of the spare's schema. A slug begins with a letter, so no tenant's schema has this name."""
        return f"_spare_{self.id.hex[-12:]}"
