import zoneinfo

from django.core.validators import RegexValidator
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

from tenants.ids import new_id

MAX_SLUG_LENGTH = 40

validate_slug = RegexValidator(
    rf"^[a-z](?:[a-z0-9-]{{0,{MAX_SLUG_LENGTH - 2}}}[a-z0-9])?$",
    "Use lower-case letters, digits and hyphens; start with a letter, end with a letter or digit.",
)


def validate_timezone(value: str) -> None:
    if value not in zoneinfo.available_timezones():
        from django.core.exceptions import ValidationError

        raise ValidationError(f"{value!r} is no IANA time zone.")


class Tenant(TenantMixin):
    """An organisation. Its rows live in the PostgreSQL schema `schema_name`, which no other tenant ever gets."""

    class Status(models.TextChoices):
        PROVISIONING = "provisioning"
        ACTIVE = "active"
        SUSPENDED = "suspended"
        DELETING = "deleting"
        FAILED = "failed"

    auto_create_schema = False

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=200)
    slug = models.CharField(max_length=MAX_SLUG_LENGTH, unique=True, validators=[validate_slug])
    status = models.CharField(max_length=20, choices=Status, default=Status.PROVISIONING, editable=False)
    failure = models.TextField(blank=True, editable=False, help_text="Why provisioning failed")
    timezone = models.CharField(max_length=64, default="UTC", validators=[validate_timezone])
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.slug


class Domain(DomainMixin):
    """A host name that leads to a tenant, without port, in lower case."""


class SignUp(models.Model):
    """The owner-to-be of a tenant that is being provisioned; the row goes when the owner exists."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True)
    email = models.EmailField()
    full_name = models.CharField(max_length=200)
    password_hash = models.CharField(max_length=256)
