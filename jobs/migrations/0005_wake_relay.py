from django.db import migrations

# A dispatch wakes a relay that sleeps. It asks by advisory locks, which relays hold for as long as they listen, and as
# they are busy: so nobody notifies while no relay listens, or while one is busy and looks again at once. NOTIFY makes
# transactions commit one after the other, and an idle system has few of them.
WAKE_RELAY = """
CREATE FUNCTION public.jobs_wake_relay() RETURNS trigger LANGUAGE plpgsql
AS $$
BEGIN
    IF pg_catalog.pg_try_advisory_lock(32332, 1) THEN
        PERFORM pg_catalog.pg_advisory_unlock(32332, 1);
    ELSIF pg_catalog.pg_try_advisory_lock(32332, 2) THEN
        PERFORM pg_catalog.pg_advisory_unlock(32332, 2);
        PERFORM pg_catalog.pg_notify('jobs_relay', '');
    END IF;
    RETURN NULL;
END
$$
"""
TRIGGER = """
CREATE TRIGGER jobs_wake_relay AFTER INSERT ON public.jobs_job
FOR EACH STATEMENT EXECUTE FUNCTION public.jobs_wake_relay()
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_every_job_ends")]
    operations = [
        migrations.RunSQL(WAKE_RELAY, "DROP FUNCTION public.jobs_wake_relay()"),
        migrations.RunSQL(TRIGGER, "DROP TRIGGER jobs_wake_relay ON public.jobs_job"),
    ]
