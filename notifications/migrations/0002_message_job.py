"""A message names its job: see MessageQuerySet.with_outcome."""

from django.db import migrations, models

# A message is written in one transaction with its job. One without a job has lost it.
NAME_JOBS = """
    UPDATE notifications_message message SET job = job.id
    FROM public.jobs_job job
    WHERE message.status = 'queued' AND job.task = 'notifications.tasks.deliver_message'
        AND job.args = '["' || message.id || '"]'
"""
FAIL_WHAT_IS_LOST = """
    UPDATE notifications_message message
    SET status = 'failed', error = coalesce(nullif(error, ''), 'Its job ended before the message was sent')
    WHERE status = 'queued' AND job IS NULL AND NOT EXISTS (
        SELECT FROM public.jobs_job job
        WHERE job.task = 'notifications.tasks.deliver_message' AND job.args = '["' || message.id || '"]'
    )
"""


class Migration(migrations.Migration):
    dependencies = [("notifications", "0001_initial"), ("jobs", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="message",
            name="job",
            field=models.UUIDField(help_text="The job that sends it", null=True),
        ),
        migrations.RunSQL(NAME_JOBS, migrations.RunSQL.noop),
        migrations.RunSQL(FAIL_WHAT_IS_LOST, migrations.RunSQL.noop),
    ]
