from django.db import models

from tenants.ids import new_id


class KeptResponse(models.Model):
    """The response to a request that named an `Idempotency-Key`; it commits with what that request did.

    In a tenant's schema those of its users, in `public` those of sign-ups.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    owner = models.CharField(max_length=64, help_text="Whose key it is: a user's id, or the slug that is signed up")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="Of the request: a keyed hash, for bodies hold passwords")
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField()
    # Text, not jsonb, which loses the order of the fields.
    body = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["owner", "key"], name="kept_response_unique"),)
        indexes = (models.Index(fields=["created_at"], name="kept_response_created"),)

    def __str__(self) -> str:
        return self.key
