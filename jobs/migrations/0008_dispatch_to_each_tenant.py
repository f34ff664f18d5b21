from django.db import migrations

# A job in each active tenant, with its place in line, by one plan for all of them: to ask `jobs_next_tag()` for each place
# takes as long again as all the rest. As the functions of 0007, it never reads or sorts the whole line. PostgreSQL would
# compile a plan that it was told to avoid, so that is off too.
DISPATCH_TO_EACH_TENANT = """
CREATE FUNCTION public.jobs_dispatch_to_each_tenant(
    task text, args text, kwargs text, link text, link_error text,
    soft_limit double precision, hard_limit double precision, request_id text,
    eta timestamptz, countdown interval, expires_at timestamptz, expires_in interval, immediate boolean
) RETURNS integer LANGUAGE plpgsql
SET search_path = '' SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_sort = off SET enable_incremental_sort = off
AS $$
DECLARE
    reached bigint;
    dispatched integer;
BEGIN
    SELECT last_value INTO reached FROM public.jobs_virtual_time;
    INSERT INTO public.jobs_job (
        id, tenant_id, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id,
        due_at, next_send_at, expires_at, tag, codec,
        state, attempt, retries, kills, lost, sends, error, traceback, created_at
    )
    SELECT
        gen_random_uuid(), tenant.id, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id,
        coalesce(eta, clock_timestamp() + countdown), coalesce(eta, clock_timestamp() + countdown),
        coalesce(expires_at, clock_timestamp() + expires_in),
        CASE WHEN immediate THEN least(greatest(reached, last.tag + 1), 1000000000000000000) END, 1,
        'waiting', 0, 0, 0, 0, 0, '', '', clock_timestamp()
    FROM public.tenants_tenant tenant
    LEFT JOIN LATERAL (
        SELECT job.tag FROM public.jobs_job job WHERE job.tenant_id = tenant.id AND job.tag >= reached
        ORDER BY job.tenant_id DESC, job.tag DESC, job.next_send_at DESC LIMIT 1
    ) AS last ON immediate
    WHERE tenant.status = 'active';
    GET DIAGNOSTICS dispatched = ROW_COUNT;
    RETURN dispatched;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0007_kept_plans")]
    operations = [migrations.RunSQL(DISPATCH_TO_EACH_TENANT, "DROP FUNCTION public.jobs_dispatch_to_each_tenant")]
