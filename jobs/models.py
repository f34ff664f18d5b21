"""The outbox, and the processes that were seen."""

from datetime import UTC, datetime

from django.db import models
from django.db.models import F, Func, Q, Value
from django.utils import timezone

from jobs import codec
from tenants.ids import new_id
from tenants.models import Tenant

#: The next send of a row whose tenant is not active
PARKED = datetime(9999, 1, 1, tzinfo=UTC)


class Job(models.Model):
    """A durable job: the dispatch, the queue and the lease in one row. It goes when the job ends, unless it is dead.

    `docs/explanation/protocol.md` tells how it travels. Times are the database's. The table's name has
    its schema, since a tenant's search path does not lead here.
    """

    class State(models.TextChoices):
        """A row that is neither waiting nor dead is gone."""

        WAITING = "waiting"
        DEAD = "dead"

    class Codec(models.IntegerChoices):
        """How arguments are written. A row of the release before has no codec, so it gets the database's default."""

        CELERY = codec.CELERY, "Celery's JSON, which has types of its own"
        PLAIN = codec.PLAIN, "plain JSON"

    id = models.UUIDField(primary_key=True, default=new_id)
    tenant = models.ForeignKey(
        Tenant, null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, help_text="None: public"
    )
    # In the order of dispatch, within a tag.
    seq = models.BigIntegerField(db_default=Func(Value("public.jobs_job_seq"), function="nextval"))
    task = models.CharField(max_length=255)
    codec = models.SmallIntegerField(
        choices=Codec, default=Codec.PLAIN, db_default=Codec.CELERY, help_text="What its args and kwargs are written in"
    )
    # Text, not jsonb, which refuses \u0000 and loses how a number was written.
    args = models.TextField(default="[]")
    kwargs = models.TextField(default="{}")
    link = models.TextField(default="[]", help_text="Signatures to dispatch with the job's completion")
    link_error = models.TextField(default="[]", help_text="Signatures to dispatch with the job's death")
    soft_limit = models.FloatField(null=True, help_text="Seconds; None: the task's own")
    hard_limit = models.FloatField(null=True, help_text="Seconds; None: the task's own")
    request_id = models.CharField(max_length=64, default="", help_text="Of the HTTP request that dispatched it")

    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    attempt = models.IntegerField(default=0, help_text="How often it was claimed")
    retries = models.IntegerField(default=0, help_text="How often its task asked for another try")
    kills = models.IntegerField(default=0, help_text="How often in a row its worker's child was killed under it")
    lost = models.IntegerField(default=0, help_text="How often its lease ran out")
    transients = models.IntegerField(
        default=0, db_default=0, help_text="How often a passing error of the database ended an attempt"
    )
    snoozes = models.IntegerField(default=0, db_default=0, help_text="How often its body put it off")
    sends = models.IntegerField(default=0, help_text="How often it was sent to the broker")
    token = models.UUIDField(null=True, help_text="The fence: who holds the lease")
    lease_until = models.DateTimeField(null=True)
    deadline = models.DateTimeField(null=True, help_text="Until when its lease may be renewed")
    due_at = models.DateTimeField()
    next_send_at = models.DateTimeField(
        help_text="When it is to be sent (again); the year 9999 if never, or while its tenant is suspended"
    )
    expires_at = models.DateTimeField(null=True)
    unknown_since = models.DateTimeField(null=True, help_text="When a worker first did not know its task")
    schedule = models.CharField(
        max_length=200, default="", db_default="", help_text="The periodic task whose run it is"
    )
    tag = models.BigIntegerField(
        null=True, help_text="Start tag: its place in the line to the broker; None: not in line"
    )
    error = models.TextField(default="")
    traceback = models.TextField(default="")
    created_at = models.DateTimeField(default=timezone.now)
    died_at = models.DateTimeField(null=True)

    class Meta:
        db_table = '"public"."jobs_job"'
        permissions = (
            ("replay_job", "Can run dead job again"),
            ("discard_job", "Can discard dead job"),
            ("cancel_job", "Can cancel job"),
        )
        indexes = (
            models.Index(F("tag"), F("seq"), name="jobs_job_line", condition=Q(tag__isnull=False)),
            # By time too, for those of each tenant that are not in line.
            models.Index(F("tenant"), F("tag"), F("next_send_at"), name="jobs_job_tenant_line"),
            # By tenant too, for the parked rows of each.
            models.Index(
                F("next_send_at"), F("tenant"), name="jobs_job_wake", condition=Q(tag__isnull=True, state="waiting")
            ),
            models.Index(
                F("expires_at"), name="jobs_job_expiry", condition=Q(expires_at__isnull=False, state="waiting")
            ),
            models.Index(F("tenant"), F("seq"), name="jobs_job_dead", condition=Q(state="dead")),
            models.Index(F("died_at"), name="jobs_job_prune", condition=Q(state="dead")),
            models.Index(F("unknown_since"), name="jobs_job_unknown", condition=Q(unknown_since__isnull=False)),
        )
        constraints = (
            # A run that waits stands for all that were due meanwhile.
            models.UniqueConstraint(
                F("schedule"),
                name="jobs_job_one_run_waits",
                condition=Q(schedule__gt="", state="waiting", attempt=0),
            ),
        )

    def __str__(self) -> str:
        return f"{self.task} {self.id}"


class Heartbeat(models.Model):
    """The sign of life of a relay, a worker or a beat: a row per process, renewed every few seconds."""

    class Kind(models.TextChoices):
        """What needs to run, apart from the web server."""

        RELAY = "relay"
        WORKER = "worker"
        BEAT = "beat"

    name = models.CharField(max_length=255, primary_key=True)
    kind = models.CharField(max_length=10, choices=Kind, db_default=Kind.RELAY)
    seen_at = models.DateTimeField()
    error = models.TextField(default="", db_default="", help_text="Why it can't do its work at the moment")

    class Meta:
        # Named as it was when relays alone left one: a relay of the release before still writes to it.
        db_table = '"public"."jobs_relaypulse"'

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
