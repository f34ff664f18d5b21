from importlib import import_module

from django.db import migrations, models

before = import_module("jobs.migrations.0002_next_tag")

# How far the line has come. A sequence: its one row has no versions, which an old snapshot would keep for each MARK, for
# each dispatch to walk. It only rises, so that who commits late is not the measure of those who come then.
VIRTUAL_TIME = """
CREATE SEQUENCE public.jobs_virtual_time MINVALUE 0;
SELECT setval('public.jobs_virtual_time', coalesce((SELECT min(tag) FROM public.jobs_job), 0));
"""
# It waits for nobody: where two relays mark at once, one of them raises it, which is exact enough.
ADVANCE = """
CREATE FUNCTION public.jobs_advance_virtual_time(tag bigint) RETURNS bigint LANGUAGE plpgsql
SET search_path = ''
AS $$
DECLARE
    reached bigint;
BEGIN
    SELECT last_value INTO reached FROM public.jobs_virtual_time;
    IF reached < tag AND pg_catalog.pg_try_advisory_xact_lock(32332, 3) THEN
        SELECT greatest(last_value, least(tag, 1000000000000000000)) INTO reached FROM public.jobs_virtual_time;
        PERFORM pg_catalog.setval('public.jobs_virtual_time', reached);
    END IF;
    RETURN reached;
END
$$
"""
# Start-time fair queueing: a tenant's next job stands one place behind its last one, and never before what the line has
# come to, so that tenants with work take turns however much one of them queues. Nobody looks at what has passed.
NEXT_TAGS = """
CREATE OR REPLACE FUNCTION public.jobs_next_tags(home uuid) RETURNS TABLE (tag bigint) LANGUAGE sql STABLE
AS $$
    SELECT greatest(
        (SELECT last_value FROM public.jobs_virtual_time),
        -- Ordered by the tenant too, as the index is: max() may read the whole line.
        CASE WHEN home IS NULL
            THEN (SELECT own.tag + 1 FROM public.jobs_job own
                  WHERE own.tenant_id IS NULL AND own.tag >= (SELECT last_value FROM public.jobs_virtual_time)
                  ORDER BY own.tenant_id DESC, own.tag DESC LIMIT 1)
            ELSE (SELECT own.tag + 1 FROM public.jobs_job own
                  WHERE own.tenant_id = home AND own.tag >= (SELECT last_value FROM public.jobs_virtual_time)
                  ORDER BY own.tenant_id DESC, own.tag DESC LIMIT 1)
        END
    )
$$
"""
# No look for due rows has to walk over those that are dead.
DEAD_ARE_NEVER_SENT = "UPDATE public.jobs_job SET next_send_at = '9999-01-01 00:00:00+00' WHERE state = 'dead'"


class Migration(migrations.Migration):
    dependencies = [("jobs", "0005_wake_relay")]
    operations = [
        migrations.RunSQL(VIRTUAL_TIME, "DROP SEQUENCE public.jobs_virtual_time"),
        migrations.RunSQL(ADVANCE, "DROP FUNCTION public.jobs_advance_virtual_time(bigint)"),
        migrations.RunSQL(NEXT_TAGS, before.NEXT_TAGS.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")),
        migrations.RunSQL(DEAD_ARE_NEVER_SENT, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="job",
            name="next_send_at",
            field=models.DateTimeField(
                help_text="When it is to be sent (again); the year 9999 if never, or while its tenant is suspended"
            ),
        ),
        migrations.RemoveIndex(model_name="job", name="jobs_job_tenant_line"),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(models.F("tenant"), models.F("tag"), models.F("next_send_at"), name="jobs_job_tenant_line"),
        ),
    ]
