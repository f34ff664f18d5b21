"""The relay's statements, each about many rows. Those about one job, and the conditions' names, are in jobs.statements.

A row is *parked* while its tenant is not active: it has no tag, and its next send is in the year 9999, which Python's
datetime can still hold. Statements that change many rows skip those that are locked, so they are part of no deadlock.

PostgreSQL can search an index by `statement_timestamp()`, but not by `clock_timestamp()`, which is volatile. The table
fills and empties faster than its statistics follow, so rows that are to be changed are found by their keys, in an
array: a join might read the whole table (decision 11).
"""

# The line: wake what is due, mark what is sent.

# Rows whose time has come: later ones, retries, and those whose message seems lost. Those due first are found by time;
# where they are too many, each tenant's share of them by tenant. Maintenance looks further back than `within`: while
# somebody holds an old snapshot, the index keeps an entry of each row that has passed.
_DUE = """
    job.state = 'waiting' AND job.tag IS NULL
            AND job.next_send_at <= statement_timestamp() AND job.next_send_at >= statement_timestamp() - %(within)s
            AND job.due_at <= statement_timestamp()
            AND (job.token IS NULL OR (job.lease_until <= clock_timestamp() AND %(take_over)s))
            AND job.kills < %(max_kills)s AND job.lost < %(max_lost)s - (job.token IS NOT NULL)::int
"""
_DUE_FIRST = f"""
        SELECT id, tenant_id, next_send_at FROM public.jobs_job job WHERE {_DUE}
        ORDER BY next_send_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
"""
_DUE_OF_EACH_TENANT = f"""
        SELECT own.* FROM unnest(%(tenants)s::uuid[]) AS home CROSS JOIN LATERAL (
            SELECT id, tenant_id, next_send_at FROM public.jobs_job job WHERE tenant_id = home AND {_DUE}
            ORDER BY tenant_id, tag, next_send_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
        ) own
        UNION ALL
        SELECT * FROM (
            SELECT id, tenant_id, next_send_at FROM public.jobs_job job WHERE tenant_id IS NULL AND {_DUE}
            ORDER BY tenant_id, tag, next_send_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
        ) of_public
"""
# They take their place in line. Rows of a tenant that is not active are parked, or they would hold up the line.
_WAKE = """
    WITH due AS ({due}), placed AS MATERIALIZED (
        SELECT
            due.id,
            public.jobs_next_tag(due.tenant_id)
                + row_number() OVER (PARTITION BY due.tenant_id ORDER BY due.next_send_at) - 1 AS tag,
            (due.tenant_id IS NULL OR coalesce(tenant.status = 'active', false)) AS active
        FROM due LEFT JOIN public.tenants_tenant tenant ON tenant.id = due.tenant_id
    )
    UPDATE public.jobs_job job SET (tag, next_send_at) = (
        SELECT
            CASE WHEN active THEN placed.tag END,
            CASE WHEN active THEN job.next_send_at ELSE '9999-01-01 00:00:00+00' END
        FROM placed WHERE placed.id = job.id
    )
    WHERE id = ANY(ARRAY(SELECT id FROM due))
"""
WAKE = _WAKE.format(due=_DUE_FIRST)
WAKE_EACH_TENANT = _WAKE.format(due=_DUE_OF_EACH_TENANT)
# It hops from one tenant to the next, so the many rows that one may have cost nothing.
FIND_TENANTS_THAT_WAIT = """
    WITH RECURSIVE home (id) AS (
        (SELECT tenant_id FROM public.jobs_job WHERE tenant_id > %(after)s ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant_id FROM public.jobs_job WHERE tenant_id > home.id ORDER BY tenant_id LIMIT 1)
        FROM home WHERE home.id IS NOT NULL
    )
    SELECT id FROM home WHERE (
        SELECT true FROM public.jobs_job
        WHERE tenant_id = home.id AND tag IS NULL AND next_send_at <= statement_timestamp()
            AND next_send_at >= statement_timestamp() - %(within)s
        ORDER BY tenant_id, tag, next_send_at LIMIT 1
    )
    LIMIT %(tenants)s
"""

# Takes rows out of the line, in fair order, and raises virtual time to where it has come. Each row that is to be sent
# gets the time of its next send. It begins to look at the floor, for what has passed leaves entries in the index. Rows
# below virtual time are misplaced; so are, but for one, those that share a place with others of their tenant, since no
# call saw the other one. (There is none behind the last place of all, where somebody has put them by hand.)
MARK = """
    WITH found AS (
        SELECT
            job.tag < (SELECT last_value FROM public.jobs_virtual_time) AS late,
            job.tag, job.seq, job.tenant_id,
            (job.tenant_id IS NULL OR coalesce(tenant.status = 'active', false)) AS active,
            job.id, job.task, coalesce(tenant.schema_name, 'public'), soft_limit, hard_limit, request_id
        FROM public.jobs_job job LEFT JOIN public.tenants_tenant tenant ON tenant.id = job.tenant_id
        WHERE job.tag >= %(floor)s
            AND (job.tenant_id IS NULL OR job.tenant_id <> ALL(%(passed_over)s::uuid[]))
            AND (job.token IS NULL OR (job.lease_until <= clock_timestamp() AND %(take_over)s))
        ORDER BY job.tag, job.seq LIMIT %(room)s FOR UPDATE OF job SKIP LOCKED
    ), judged AS (
        SELECT
            tag < 1000000000000000000 AND (
                late OR row_number() OVER (PARTITION BY tenant_id, tag ORDER BY seq) > 1
                OR (tag = %(served_at)s AND coalesce(tenant_id, %(public)s) = ANY(%(served)s::uuid[]))
            ) AS misplaced,
            found.*
        FROM found
    ), line AS (
        -- Whoever comes late may belong before all others.
        SELECT active AND NOT misplaced AND NOT bool_or(misplaced AND late) OVER () AS sent, judged.* FROM judged
    ), marked AS (
        UPDATE public.jobs_job SET
            tag = NULL,
            sends = least(sends + 1, 1000000000),
            next_send_at = clock_timestamp()
                + least(%(first)s * power(2, least(sends, 30)), %(longest)s) * interval '1 second'
        WHERE id = ANY(ARRAY(SELECT id FROM line WHERE sent))
    ), parked AS (
        UPDATE public.jobs_job SET tag = NULL, next_send_at = '9999-01-01 00:00:00+00'
        WHERE id = ANY(ARRAY(SELECT id FROM line WHERE NOT active))
    ), last AS MATERIALIZED (
        SELECT tag, seq FROM line WHERE sent ORDER BY tag DESC, seq DESC LIMIT 1
    ), virtual AS MATERIALIZED (
        SELECT public.jobs_advance_virtual_time(coalesce(
            (SELECT tag FROM public.jobs_job
             WHERE tag >= (SELECT tag FROM last) AND (tag, seq) > ((SELECT tag FROM last), (SELECT seq FROM last))
             ORDER BY tag, seq LIMIT 1),
            (SELECT tag + 1 FROM last)
        )) AS time
    )
    SELECT virtual.time, line.* FROM line, virtual
"""

# Rows in line of tenants that are not active. MARK parks those that it meets, and passes over what is behind them.
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

# Rows in line that get a new place, behind what their tenants have in line.
_RETAG = """
    WITH moved AS (
        SELECT id, tenant_id, tag, seq FROM public.jobs_job WHERE tag >= 0 AND {where}
        ORDER BY {order} LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ), placed AS MATERIALIZED (
        SELECT
            id,
            public.jobs_next_tag(tenant_id) + row_number() OVER (PARTITION BY tenant_id ORDER BY tag, seq) - 1 AS tag
        FROM moved
    )
    UPDATE public.jobs_job job SET tag = (SELECT tag FROM placed WHERE placed.id = job.id)
    WHERE id = ANY(ARRAY(SELECT id FROM moved))
"""
# Virtual time has passed these: their transaction, or a relay that had locked them, took longer than relays look back.
RETAG_LATE = _RETAG.format(where="tag < (SELECT last_value FROM public.jobs_virtual_time)", order="tag, seq")
RETAG = _RETAG.format(where="id = ANY(%(ids)s)", order="id")

# Maintenance: rows that nobody else will ever touch again. Each look asks for its index's order; in no order,
# PostgreSQL may look through all rows that are not due.

# For a session that waits for nobody, and does not let one statement stop all others.
BE_IMPATIENT = "SET lock_timeout = '1s'; SET statement_timeout = %(statement_timeout)s"
FIND_POISON = """
    SELECT id, task FROM public.jobs_job
    WHERE state = 'waiting' AND tag IS NULL AND next_send_at <= statement_timestamp()
        AND (token IS NULL OR (lease_until <= clock_timestamp() AND %(take_over)s))
        AND (kills >= %(max_kills)s OR lost >= %(max_lost)s - (token IS NOT NULL)::int)
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

FIND_INACTIVE = "SELECT id FROM public.tenants_tenant WHERE status <> 'active'"
