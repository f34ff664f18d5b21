from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, Now, NullIf, Upper

from jobs.models import Job
from tenants.ids import new_id


class MessageQuerySet(models.QuerySet["Message"]):
    """Messages, and whether a job will still send them.

    A job can end without a word to its message: its worker is killed, people cancel it, nobody knows its task. So the
    same statement asks for the job, which is right whatever ended that.
    """

    def with_outcome(self) -> Self:
        """With `outcome` and `reason`: status and error, but failed where nothing will send the message any more."""
        return self.annotate(
            outcome=Case(When(_is_lost(), then=Value("failed")), default=F("status")),
            reason=Case(When(_is_lost(), then=_why_lost()), default=F("error")),
        )

    def fail_lost(self) -> int:
        """Write that down, for whoever asks what has changed. Returns of how many."""
        return self.filter(_is_lost()).update(status="failed", error=_why_lost())


def _is_lost() -> Q:
    """A message of the release before names no job: it is what its row says."""
    waiting = Job.objects.filter(pk=OuterRef("job"), state=Job.State.WAITING)
    return Q(status="queued", job__isnull=False) & ~Q(Exists(waiting))


def _why_lost() -> Coalesce:
    of_job = Subquery(Job.objects.filter(pk=OuterRef("job")).values("error"))
    of_last_attempt = NullIf("error", Value("", models.TextField()))
    return Coalesce(of_job, of_last_attempt, Value("Its job ended before the message was sent", models.TextField()))


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
    secret_name = models.CharField(
        max_length=100, blank=True, db_default="", default="", help_text="What the placeholder in its texts stands for"
    )
    is_limited = models.BooleanField(
        default=False, db_default=False, help_text="The text is a fixed one, and few of these go: see UNCONFIRMED_MAILS"
    )
    by_stranger = models.BooleanField(
        default=False, db_default=False, help_text="Asked for without logging in: see notifications/limited.py"
    )
    is_promised = models.BooleanField(
        default=False, db_default=False, help_text="It has a place among the limited ones: see notifications/limited.py"
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True, help_text="Of the last attempt")
    job = models.UUIDField(null=True, help_text="The job that sends it")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)  # a trigger sets it
    sent_at = models.DateTimeField(null=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        indexes = (
            models.Index(Upper("to"), F("id").desc(), name="message_newest_to"),
            models.Index(fields=["updated_at", "id"], name="message_updated"),
            models.Index(fields=["created_at"], condition=Q(is_limited=True), name="message_limited"),
        )

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"

    @property
    def message_id(self) -> str:
        """The same at every try, so that a mail server or client can drop a repeated delivery."""
        return f"<{self.pk}@{settings.BASE_DOMAIN}>"
