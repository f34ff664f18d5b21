from django.db import migrations

# Start-time fair queueing: a tenant's next job stands one place behind its last one, and never before what the line has
# come to, so that tenants with work take turns however much one of them queues.
# By a single SELECT, which PostgreSQL makes a part of the statement that asks for the places of many tenants.
NEXT_TAGS = """
CREATE FUNCTION public.jobs_next_tags(home uuid) RETURNS TABLE (tag bigint) LANGUAGE sql STABLE
AS $$
    SELECT greatest(
        (SELECT head.tag FROM public.jobs_job head WHERE head.tag IS NOT NULL ORDER BY head.tag, head.seq LIMIT 1),
        -- Ordered by the tenant too, as the index is: max() may read the whole line.
        CASE WHEN home IS NULL
            THEN (SELECT own.tag + 1 FROM public.jobs_job own WHERE own.tag IS NOT NULL AND own.tenant_id IS NULL
                  ORDER BY own.tenant_id DESC, own.tag DESC LIMIT 1)
            ELSE (SELECT own.tag + 1 FROM public.jobs_job own WHERE own.tag IS NOT NULL AND own.tenant_id = home
                  ORDER BY own.tenant_id DESC, own.tag DESC LIMIT 1)
        END,
        0
    )
$$
"""
# For one tenant, with a plan that the session keeps: with a schema per tenant, PostgreSQL would else make it anew each
# time, and its own search path is what lets it. That plan may be made while the table is empty, and has to suit a full
# one, so it never reads or sorts the whole.
NEXT_TAG = """
CREATE FUNCTION public.jobs_next_tag(home uuid) RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = '' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off
AS $$
BEGIN
    RETURN (SELECT tag FROM public.jobs_next_tags(home));
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]
    operations = [
        migrations.RunSQL(NEXT_TAGS, "DROP FUNCTION public.jobs_next_tags(uuid)"),
        migrations.RunSQL(NEXT_TAG, "DROP FUNCTION public.jobs_next_tag(uuid)"),
    ]
