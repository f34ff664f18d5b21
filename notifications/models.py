from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Now, Upper

from tenants.ids import new_id


class Message(models.Model):
    """A mail to one person, as rendered when it was written: every try sends the same."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    to = models.EmailField()
    subject = models.CharField(max_length=300)
    text = models.TextField()
    html = models.TextField()
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True, help_text="Of the last attempt")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)  # a trigger sets it
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(Upper("to"), F("id").desc(), name="message_newest_to"),
            models.Index(fields=["updated_at", "id"], name="message_updated"),
        )

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"

    @property
    def message_id(self) -> str:
        """The same at every try, so that a mail server or client can drop a repeated delivery."""
        return f"<{self.pk}@{settings.BASE_DOMAIN}>"
