from django.db import migrations

# What each job goes through, as functions: for such a one the session keeps its plan. PostgreSQL would else plan them anew
# each time, since owners begin with no prepared statements, and each has another search path. A plan may be made while
# the table is empty and has to suit a full one, so it never reads the whole. Where one changes, it gets another name: two
# releases of workers may use the database at once.
KEPT = "SET search_path = '' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off"

# A tenant's place in line, without a query inside the other (see 0002 and 0006).
NEXT_TAG = f"""
CREATE OR REPLACE FUNCTION public.jobs_next_tag(home uuid) RETURNS bigint LANGUAGE plpgsql STABLE
{KEPT}
AS $$
DECLARE
    reached bigint;
    own bigint;
BEGIN
    SELECT last_value INTO reached FROM public.jobs_virtual_time;
    IF home IS NULL THEN
        SELECT job.tag + 1 INTO own FROM public.jobs_job job WHERE job.tenant_id IS NULL AND job.tag >= reached
        ORDER BY job.tenant_id DESC, job.tag DESC LIMIT 1;
    ELSE
        SELECT job.tag + 1 INTO own FROM public.jobs_job job WHERE job.tenant_id = home AND job.tag >= reached
        ORDER BY job.tenant_id DESC, job.tag DESC LIMIT 1;
    END IF;
    RETURN greatest(reached, own);
END
$$
"""
NEXT_TAG_BEFORE = f"""
CREATE OR REPLACE FUNCTION public.jobs_next_tag(home uuid) RETURNS bigint LANGUAGE plpgsql STABLE
{KEPT}
AS $$
BEGIN
    RETURN (SELECT tag FROM public.jobs_next_tags(home));
END
$$
"""
# An immediate job takes its place in line.
DISPATCH = f"""
CREATE FUNCTION public.jobs_dispatch(
    id uuid, schema text, task text, args text, kwargs text, link text, link_error text,
    soft_limit double precision, hard_limit double precision, request_id text,
    eta timestamptz, countdown interval, expires_at timestamptz, expires_in interval, immediate boolean
) RETURNS void LANGUAGE plpgsql
{KEPT}
AS $$
DECLARE
    home uuid := public.jobs_tenant_of(schema, task);
    due timestamptz := coalesce(eta, clock_timestamp() + countdown);
BEGIN
    INSERT INTO public.jobs_job (
        id, tenant_id, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id,
        due_at, next_send_at, expires_at, tag, codec,
        state, attempt, retries, kills, lost, sends, error, traceback, created_at
    ) VALUES (
        id, home, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id,
        due, due, coalesce(expires_at, clock_timestamp() + expires_in),
        CASE WHEN immediate THEN public.jobs_next_tag(home) END, 1,
        'waiting', 0, 0, 0, 0, 0, '', '', clock_timestamp()
    );
END
$$
"""
# The claim, as docs/explanation/protocol.md has it: committed before the body. A crash of the server may forget the claim
# of a job that is one transaction, since the server forgets that transaction with it: so the first claim of such a job is
# not flushed to disk.
CLAIM = f"""
CREATE FUNCTION public.jobs_claim(
    job_id uuid, named text, by uuid, is_atomic boolean, lease interval, longest interval, renewal_interval interval,
    max_kills integer, max_lost integer
) RETURNS TABLE (
    tenant_id uuid, schema_name text, codec smallint, args text, kwargs text, link text, link_error text,
    attempt integer, retries integer, transients integer, snoozes integer, created_at timestamptz,
    token_before uuid, synchronous_commit text
) LANGUAGE plpgsql
{KEPT}
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        UPDATE public.jobs_job job SET
            attempt = attempt + (token IS DISTINCT FROM by)::int,
            lost = lost + (token IS NOT NULL AND token <> by)::int,
            token = by,
            lease_until = clock_timestamp() + lease,
            deadline = clock_timestamp() + longest,
            next_send_at = clock_timestamp() + lease,
            tag = NULL,
            unknown_since = NULL
        WHERE id = job_id AND task = named AND state = 'waiting'
            AND coalesce(
                (SELECT tenant.status = 'active' AND to_regnamespace(quote_ident(tenant.schema_name)) IS NOT NULL
                 FROM public.tenants_tenant tenant WHERE tenant.id = job.tenant_id),
                job.tenant_id IS NULL
            )
            AND (
                token = by
                OR (
                    due_at <= clock_timestamp()
                    AND (attempt > 0 OR expires_at IS NULL OR expires_at > clock_timestamp())
                    AND (
                        token IS NULL
                        OR (
                            lease_until <= clock_timestamp()
                            -- Nobody could renew while the server was down.
                            AND pg_postmaster_start_time() + renewal_interval <= clock_timestamp()
                        )
                    )
                    AND kills < max_kills
                    AND lost + (token IS NOT NULL)::int < max_lost
                )
            )
        RETURNING
            tenant_id,
            coalesce((SELECT schema_name FROM public.tenants_tenant tenant WHERE tenant.id = job.tenant_id), 'public')::text,
            codec, args, kwargs, link, link_error, attempt, retries, transients, snoozes, created_at,
            -- By the statement's snapshot: the token before this claim.
            CASE WHEN lost > 0 THEN (SELECT before.token FROM public.jobs_job before WHERE before.id = job.id) END,
            set_config(
                'synchronous_commit',
                CASE WHEN is_atomic AND sends <= 1 THEN 'off' ELSE current_setting('synchronous_commit') END,
                true
            );
END
$$
"""
# The gate: the locks first, and then, as a statement of its own, the look that sees what they waited for. A body may think
# for as long as its job may run, and no longer: see tenants/role.py for sessions without a job.
PASS_GATE = f"""
CREATE FUNCTION public.jobs_pass_gate(
    job_id uuid, by uuid, idle text, tenant_class integer, tenant text
) RETURNS boolean LANGUAGE plpgsql
{KEPT}
AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', idle, true);
    -- `public` is never deleted.
    IF tenant IS NOT NULL AND NOT pg_try_advisory_xact_lock_shared(tenant_class, hashtext(tenant))
        OR NOT pg_try_advisory_xact_lock(hashtextextended(by::text, 0))
    THEN
        RETURN false;
    END IF;
    RETURN EXISTS (
        SELECT FROM public.jobs_job job
        WHERE id = job_id AND token = by AND state = 'waiting' AND lease_until > clock_timestamp()
            AND coalesce(
                (SELECT home.status = 'active' AND to_regnamespace(quote_ident(home.schema_name)) IS NOT NULL
                 FROM public.tenants_tenant home WHERE home.id = job.tenant_id),
                job.tenant_id IS NULL
            )
    );
END
$$
"""
COMPLETE = f"""
CREATE FUNCTION public.jobs_complete(job_id uuid, by uuid) RETURNS void LANGUAGE plpgsql
{KEPT}
AS $$
BEGIN
    DELETE FROM public.jobs_job WHERE id = job_id AND token = by AND state = 'waiting';
    IF NOT FOUND THEN
        PERFORM public.jobs_lease_lost();
    END IF;
END
$$
"""
# What the relay and lists count on, so that nobody who edits a row stops the others by it. In one constraint, and no more
# than that: PostgreSQL reads constraints anew for each statement. Python can read no time after the year 9999.
SANE = """
ALTER TABLE public.jobs_job DROP CONSTRAINT jobs_job_sane;
ALTER TABLE public.jobs_job ADD CONSTRAINT jobs_job_sane CHECK (
    tag BETWEEN 0 AND 4000000000000000000 AND sends BETWEEN 0 AND 1000000000
    AND greatest(due_at, next_send_at, expires_at, created_at) < '9999-12-30 00:00:00+00'
    AND (state = 'waiting' OR tag IS NULL)
)
"""
SANE_BEFORE = """
ALTER TABLE public.jobs_job DROP CONSTRAINT jobs_job_sane;
ALTER TABLE public.jobs_job ADD CONSTRAINT jobs_job_sane CHECK (
    tag BETWEEN 0 AND 4000000000000000000 AND sends BETWEEN 0 AND 1000000000
    AND created_at < '9999-01-01 00:00:00+00' AND next_send_at < '9999-12-30 00:00:00+00'
)
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0006_virtual_time"), ("tenants", "0002_spare")]
    operations = [
        migrations.RunSQL(NEXT_TAG, NEXT_TAG_BEFORE),
        migrations.RunSQL(DISPATCH, "DROP FUNCTION public.jobs_dispatch"),
        migrations.RunSQL(CLAIM, "DROP FUNCTION public.jobs_claim"),
        migrations.RunSQL(PASS_GATE, "DROP FUNCTION public.jobs_pass_gate"),
        migrations.RunSQL(COMPLETE, "DROP FUNCTION public.jobs_complete"),
        migrations.RemoveConstraint(model_name="job", name="jobs_job_times"),
        migrations.RemoveConstraint(model_name="job", name="jobs_job_dead_is_not_in_line"),
        migrations.RunSQL(SANE, SANE_BEFORE),
    ]
