"""The relay's statements, each about many rows. Those about one job, and the conditions' names, are in jobs.statements.

A row is *parked* while its tenant is not active: it has no tag, and its next send is in the year 9999, which Python's
datetime can still hold. Statements that change many rows skip those that are locked, so they are part of no deadlock.

PostgreSQL can search an index by `statement_timestamp()`, but not by `clock_timestamp()`, which is volatile. The table
fills and empties faster than its statistics follow, so rows that are to be changed are found by their keys, in an
array: a join might read the whole table (decision 11).
"""

# The line: wake what is due, mark what is sent.

# Rows whose time has come take their place in line: later ones, retries, and those whose message seems lost. Rows of a
# tenant that is not active are parked, or they would hold up the line.
WAKE = """
    WITH due AS (
        SELECT
            job.id, job.tenant_id, job.next_send_at,
            (job.tenant_id IS NULL OR coalesce(tenant.status = 'active', false)) AS active
        FROM public.jobs_job job LEFT JOIN public.tenants_tenant tenant ON tenant.id = job.tenant_id
        WHERE job.state = 'waiting' AND job.tag IS NULL
            AND job.next_send_at <= statement_timestamp() AND job.due_at <= statement_timestamp()
            AND (job.token IS NULL OR (job.lease_until <= clock_timestamp() AND %(take_over)s))
            AND job.kills < %(max_kills)s AND job.lost + (job.token IS NOT NULL)::int < %(max_lost)s
        ORDER BY job.next_send_at LIMIT %(batch)s FOR UPDATE OF job SKIP LOCKED
    ), placed AS (
        SELECT due.*, next.tag, row_number() OVER (PARTITION BY tenant_id ORDER BY next_send_at) AS place
        FROM due, public.jobs_next_tags(tenant_id) AS next
    )
    UPDATE public.jobs_job job SET
        tag = CASE WHEN active THEN placed.tag + place - 1 END,
        next_send_at = CASE WHEN active THEN job.next_send_at ELSE '9999-01-01 00:00:00+00' END
    FROM placed
    WHERE placed.id = job.id AND job.id = ANY(ARRAY(SELECT id FROM due))
"""
# Takes rows out of the line, in fair order. Each row that is to be sent gets the time of its next send.
MARK = """
    WITH line AS (
        SELECT
            job.tag, job.seq, (job.tenant_id IS NULL OR coalesce(tenant.status = 'active', false)) AS active,
            job.id, job.task, coalesce(tenant.schema_name, 'public'), soft_limit, hard_limit, request_id
        FROM public.jobs_job job LEFT JOIN public.tenants_tenant tenant ON tenant.id = job.tenant_id
        WHERE job.tag IS NOT NULL
            AND (job.token IS NULL OR (job.lease_until <= clock_timestamp() AND %(take_over)s))
        ORDER BY job.tag, job.seq LIMIT %(room)s FOR UPDATE OF job SKIP LOCKED
    ), marked AS (
        UPDATE public.jobs_job SET
            tag = NULL,
            sends = sends + 1,
            next_send_at = clock_timestamp()
                + least(%(first)s * power(2, least(sends, 30)), %(longest)s) * interval '1 second'
        WHERE id = ANY(ARRAY(SELECT id FROM line WHERE active))
    ), parked AS (
        UPDATE public.jobs_job SET tag = NULL, next_send_at = '9999-01-01 00:00:00+00'
        WHERE id = ANY(ARRAY(SELECT id FROM line WHERE NOT active))
    )
    SELECT * FROM line
"""

# Rows in line of tenants that are not active. MARK parks those that it meets, and these are behind them.
PARK = """
    UPDATE public.jobs_job SET tag = NULL, next_send_at = '9999-01-01 00:00:00+00'
    WHERE id = ANY(ARRAY(
        SELECT job.id
        FROM public.tenants_tenant tenant CROSS JOIN LATERAL (
            SELECT id FROM public.jobs_job WHERE tenant_id = tenant.id AND tag IS NOT NULL
            ORDER BY tag LIMIT %(batch)s FOR UPDATE SKIP LOCKED
        ) job
        WHERE tenant.status <> 'active' LIMIT %(batch)s
    ))
"""

# Maintenance: rows that nobody else will ever touch again. Each look asks for its index's order; in no order,
# PostgreSQL may look through all rows that are not due.

# For a session that waits for nobody, and does not let one statement stop all others.
BE_IMPATIENT = "SET lock_timeout = '1s'; SET statement_timeout = %(statement_timeout)s"
FIND_POISON = """
    SELECT id, task FROM public.jobs_job
    WHERE state = 'waiting' AND tag IS NULL AND next_send_at <= statement_timestamp()
        AND (token IS NULL OR (lease_until <= clock_timestamp() AND %(take_over)s))
        AND (kills >= %(max_kills)s OR lost + (token IS NOT NULL)::int >= %(max_lost)s)
    ORDER BY next_send_at LIMIT %(batch)s
"""
FIND_UNKNOWN = """
    SELECT id, task FROM public.jobs_job
    WHERE state = 'waiting' AND unknown_since <= statement_timestamp() - %(unknown_for)s
        AND (token IS NULL OR lease_until <= clock_timestamp())
    ORDER BY unknown_since LIMIT %(batch)s
"""
FIND_EXPIRED = """
    SELECT id, task FROM public.jobs_job
    WHERE state = 'waiting' AND expires_at <= statement_timestamp() AND token IS NULL AND attempt = 0
    ORDER BY expires_at LIMIT %(batch)s
"""
# Of rows that were found: one of each tenant, then the second of each, and so on.
IN_TURNS = """
    SELECT id, task FROM public.jobs_job WHERE id = ANY(%(ids)s)
    ORDER BY row_number() OVER (PARTITION BY tenant_id ORDER BY id)
"""
# The tenants of parked rows that are active again, or gone. It hops over the rows in the index from one tenant to the
# next, so the many rows that one tenant may have cost nothing.
FIND_TENANTS_TO_UNPARK = """
    WITH RECURSIVE parked (tenant_id) AS (
        (SELECT tenant_id FROM public.jobs_job
         WHERE state = 'waiting' AND tag IS NULL AND next_send_at = '9999-01-01 00:00:00+00'
         ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant_id FROM public.jobs_job
                WHERE state = 'waiting' AND tag IS NULL AND next_send_at = '9999-01-01 00:00:00+00'
                    AND tenant_id > parked.tenant_id
                ORDER BY tenant_id LIMIT 1)
        FROM parked WHERE parked.tenant_id IS NOT NULL
    )
    SELECT parked.tenant_id, tenant.id IS NULL AS gone
    FROM parked LEFT JOIN public.tenants_tenant tenant ON tenant.id = parked.tenant_id
    WHERE parked.tenant_id IS NOT NULL AND (tenant.id IS NULL OR tenant.status = 'active')
"""
UNPARK = """
    UPDATE public.jobs_job SET next_send_at = clock_timestamp()
    WHERE id = ANY(ARRAY(
        SELECT id FROM public.jobs_job
        WHERE state = 'waiting' AND tag IS NULL AND next_send_at = '9999-01-01 00:00:00+00' AND tenant_id = %(tenant)s
        LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ))
"""
# Of a tenant that is gone.
DELETE_PARKED = """
    DELETE FROM public.jobs_job
    WHERE id = ANY(ARRAY(
        SELECT id FROM public.jobs_job
        WHERE state = 'waiting' AND tag IS NULL AND next_send_at = '9999-01-01 00:00:00+00' AND tenant_id = %(tenant)s
        LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ))
"""
PRUNE_DEAD = """
    DELETE FROM public.jobs_job
    WHERE id = ANY(ARRAY(
        SELECT id FROM public.jobs_job WHERE state = 'dead' AND died_at < statement_timestamp() - %(days)s
        ORDER BY died_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ))
"""
FORGET_HEARTBEATS = "DELETE FROM public.jobs_relaypulse WHERE seen_at < clock_timestamp() - interval '1 day'"

# Deleting a tenant that is `deleting`: cancel what waits, await what runs, drop the schema and the rest.

CANCEL_WAITING = """
    DELETE FROM public.jobs_job
    WHERE id = ANY(ARRAY(
        SELECT id FROM public.jobs_job WHERE tenant_id = %(tenant)s AND token IS NULL
        ORDER BY tag LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ))
"""
TRY_LOCK_TENANT = "SELECT pg_try_advisory_xact_lock(%(class)s, hashtext(%(tenant)s))"
FIND_RUNNING = "SELECT FROM public.jobs_job WHERE tenant_id = %(tenant)s AND lease_until > clock_timestamp() LIMIT 1"
DELETE_JOBS = """
    DELETE FROM public.jobs_job
    WHERE id = ANY(ARRAY(
        SELECT id FROM public.jobs_job WHERE tenant_id = %(tenant)s ORDER BY tag LIMIT %(batch)s FOR UPDATE
    ))
"""
