from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, NullIf, Upper

from jobs.models import Job
from tenants.ids import new_id


class MessageQuerySet(models.QuerySet["Message"]):
    def with_outcome(self) -> Self:
        """With `outcome` and `reason`: status and error, but failed where no job waits that would send the message.

        A job can end without a word to its message: its worker is killed, people cancel it, nobody knows its task. So
        that is asked of the job, in the same statement, and is right whatever ended it.
        """
        job = Job.objects.filter(pk=OuterRef("job"))
        is_lost = Q(status=Message.Status.QUEUED, job__isnull=False) & ~Exists(job.filter(state=Job.State.WAITING))
        told = NullIf("error", Value("", models.TextField()))
        why = Coalesce(Subquery(job.values("error")), told, Value(LOST, models.TextField()))
        return self.annotate(
            outcome=Case(When(is_lost, then=Value(Message.Status.FAILED)), default=F("status")),
            reason=Case(When(is_lost, then=why), default=F("error")),
        )


LOST = "Its job ended before the message was sent"


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
    job = models.UUIDField(null=True, help_text="The job that sends it")
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        indexes = (models.Index(Upper("to"), F("id").desc(), name="message_newest_to"),)

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"

    @property
    def message_id(self) -> str:
        """The same at every try, so that a mail server or client can drop a repeated delivery."""
        return f"<{self.pk}@{settings.BASE_DOMAIN}>"
