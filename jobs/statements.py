"""Every statement about one durable job, in the order of docs/explanation/protocol.md.

Dispatch, claim, gate and completion are functions, in migrations 0007 and 0008; the others stand here, whole.

All of them run under READ COMMITTED, by the database's clock, and name the schema of each table. Four conditions recur:

- held:    `id = … AND token = … AND state = 'waiting'`. The fence: true until a claim or an ending changes the token.
- free:    `token IS NULL OR lease_until <= clock_timestamp()`. No worker runs the job.
- poison:  its child was killed, or its worker vanished, too often; it may not run again.
- active:  bodies may run in its tenant, whose row says so and whose schema exists. `public` is always active.

Those about many rows, WAKE and MARK first, are in jobs/relay/statements.py.
"""

# Call: in the caller's transaction. An immediate job takes its place in line.

# By a function of migration 0007, whose plan the session keeps.
INSERT = """
    SELECT public.jobs_dispatch(
        %(id)s, %(schema)s, %(task)s, %(args)s, %(kwargs)s, %(link)s, %(link_error)s,
        %(soft_limit)s, %(hard_limit)s, %(request_id)s,
        %(eta)s, %(countdown)s, %(expires_at)s, %(expires_in)s, %(immediate)s
    )
"""
# One job for each call; none if the tenant does not exist. Materialized, or each call would look its place up again.
INSERT_MANY = """
    WITH tenant AS MATERIALIZED (
        SELECT home.id, public.jobs_next_tag(home.id) AS tag
        FROM (
            SELECT id FROM public.tenants_tenant WHERE schema_name = %(schema)s AND %(schema)s <> 'public'
            UNION ALL
            SELECT NULL WHERE %(schema)s = 'public'
        ) AS home
    )
    INSERT INTO public.jobs_job (
        id, tenant_id, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id,
        due_at, next_send_at, expires_at, tag, codec,
        state, attempt, retries, kills, lost, sends, error, traceback, created_at
    )
    SELECT
        call.id, tenant.id, %(task)s, call.args, call.kwargs, %(link)s, %(link_error)s,
        %(soft_limit)s, %(hard_limit)s, %(request_id)s,
        coalesce(%(eta)s::timestamptz, clock_timestamp() + %(countdown)s),
        coalesce(%(eta)s::timestamptz, clock_timestamp() + %(countdown)s),
        coalesce(%(expires_at)s::timestamptz, clock_timestamp() + %(expires_in)s::interval),
        CASE WHEN %(immediate)s THEN tenant.tag + call.place - 1 END, %(codec)s,
        'waiting', 0, 0, 0, 0, 0, '', '', clock_timestamp()
    FROM tenant, unnest(%(ids)s::uuid[], %(args)s::text[], %(kwargs)s::text[])
        WITH ORDINALITY AS call (id, args, kwargs, place)
"""
# By a function of migration 0008; how many jobs.
INSERT_FOR_EACH_TENANT = """
    SELECT public.jobs_dispatch_to_each_tenant(
        %(task)s, %(args)s, %(kwargs)s, %(link)s, %(link_error)s, %(soft_limit)s, %(hard_limit)s, %(request_id)s,
        %(eta)s, %(countdown)s, %(expires_at)s, %(expires_in)s, %(immediate)s
    )
"""

# The run of a schedule. While an earlier one waits, that stands for both: it runs once, and as the later one would.
INSERT_RUN = """
    INSERT INTO public.jobs_job (
        id, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id,
        due_at, next_send_at, expires_at, tag, codec, schedule,
        state, attempt, retries, kills, lost, sends, error, traceback, created_at
    )
    SELECT
        %(id)s, %(task)s, %(args)s, %(kwargs)s, %(link)s, %(link_error)s, %(soft_limit)s, %(hard_limit)s, '',
        clock_timestamp(), clock_timestamp(),
        coalesce(%(expires_at)s::timestamptz, clock_timestamp() + %(expires_in)s::interval),
        public.jobs_next_tag(NULL), 1, %(schedule)s,
        'waiting', 0, 0, 0, 0, 0, '', '', clock_timestamp()
    ON CONFLICT (schedule) WHERE schedule > '' AND state = 'waiting' AND attempt = 0
    DO UPDATE SET
        task = excluded.task, args = excluded.args, kwargs = excluded.kwargs, codec = excluded.codec,
        expires_at = excluded.expires_at
    RETURNING id = %(id)s
"""

# Claim: committed before the body. By another function of migration 0007.

CLAIM = """
    SELECT * FROM public.jobs_claim(
        %(id)s, %(task)s, %(token)s, %(atomic)s, %(lease)s, %(limit)s, %(renewal_interval)s,
        %(max_kills)s, %(max_lost)s
    )
"""

# A worker that has lost its lease may be gone, with its host, and PostgreSQL still keep its transaction and row locks.
# Its body's transaction holds this lock, by its token. So this ends that session, and no other.
HOLD_BY_TOKEN = "SELECT pg_try_advisory_xact_lock(hashtextextended(%(token)s, 0))"
END_LOST_SESSION = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND objsubid = 1
        AND (classid::bigint << 32) | objid::bigint = hashtextextended(%(token)s, 0)
"""
# Renewal: of all jobs that a worker runs. It does not ask whether a lease has run out: unless somebody else has claimed
# the job meanwhile, which changes the token, its body still runs.
RENEW = """
    UPDATE public.jobs_job SET
        lease_until = least(clock_timestamp() + %(lease)s, deadline),
        next_send_at = least(clock_timestamp() + %(lease)s, deadline),
        tag = NULL
    WHERE id = ANY(%(ids)s::uuid[]) AND token = ANY(%(tokens)s::uuid[]) AND state = 'waiting'
"""

# Gate: by a function of migration 0007, as the claim.

GATE = "SELECT public.jobs_pass_gate(%(id)s, %(token)s, %(idle)s, %(class)s, %(tenant)s)"
# What the gate does too, for a completion that is a transaction of its own.
GUARD = "SET LOCAL idle_in_transaction_session_timeout = %(idle)s"
SHARE_TENANT = "SELECT pg_advisory_xact_lock_shared(%(class)s, hashtext(%(tenant)s))"

# Endings of an attempt, by who holds the lease. A lease may have run out meanwhile, and the row be in line again.

# It raises once the lease is lost.
COMPLETE = "SELECT public.jobs_complete(%(id)s, %(token)s)"
RETRY = """
    UPDATE public.jobs_job SET
        token = NULL, tag = NULL, kills = 0, transients = 0, sends = 0, retries = retries + %(counted)s,
        error = %(error)s, traceback = %(traceback)s,
        due_at = term.due_at, next_send_at = term.due_at
    FROM (SELECT coalesce(%(eta)s::timestamptz, clock_timestamp() + %(countdown)s) AS due_at) AS term
    WHERE id = %(id)s AND token = %(token)s AND state = 'waiting'
"""
SNOOZE = """
    UPDATE public.jobs_job SET
        token = NULL, tag = NULL, kills = 0, transients = 0, sends = 0, snoozes = snoozes + 1,
        due_at = term.due_at, next_send_at = term.due_at
    FROM (SELECT clock_timestamp() + %(delay)s AS due_at) AS term
    WHERE id = %(id)s AND token = %(token)s AND state = 'waiting'
"""
HAND_BACK = """
    UPDATE public.jobs_job SET
        token = NULL, tag = NULL, kills = kills + %(kills)s, transients = transients + %(transients)s,
        error = %(error)s, traceback = %(traceback)s, next_send_at = clock_timestamp() + %(delay)s
    WHERE id = %(id)s AND token = %(token)s AND state = 'waiting'
"""
DEAD_LETTER = """
    UPDATE public.jobs_job SET
        state = 'dead', token = NULL, tag = NULL, next_send_at = '9999-01-01 00:00:00+00',
        died_at = clock_timestamp(),
        error = %(error)s, traceback = %(traceback)s
    WHERE id = %(id)s AND token = %(token)s AND state = 'waiting'
"""
DELETE_HELD = "DELETE FROM public.jobs_job WHERE id = %(id)s AND token = %(token)s AND state = 'waiting'"

# Endings of a job that nobody runs.

DELETE_NOT_HELD_ELSEWHERE = """
    DELETE FROM public.jobs_job WHERE id = %(id)s AND state = 'waiting' AND (token IS NULL OR token = %(token)s)
"""
DEAD_LETTER_POISON = """
    UPDATE public.jobs_job SET
        state = 'dead', token = NULL, tag = NULL, next_send_at = '9999-01-01 00:00:00+00',
        died_at = clock_timestamp(),
        error = %(error)s, traceback = %(traceback)s
    WHERE id = %(id)s AND state = 'waiting' AND (token IS NULL OR lease_until <= clock_timestamp())
        AND (kills >= %(max_kills)s OR lost >= %(max_lost)s - (token IS NOT NULL)::int)
"""
DEAD_LETTER_UNKNOWN = """
    UPDATE public.jobs_job SET
        state = 'dead', token = NULL, tag = NULL, next_send_at = '9999-01-01 00:00:00+00',
        died_at = clock_timestamp(),
        error = %(error)s, traceback = %(traceback)s
    WHERE id = %(id)s AND state = 'waiting' AND (token IS NULL OR lease_until <= clock_timestamp())
        AND unknown_since <= clock_timestamp() - %(unknown_for)s
"""
# One that has begun can't expire, and its claim does not ask: else nobody would touch it again.
DELETE_EXPIRED = """
    DELETE FROM public.jobs_job
    WHERE id = %(id)s AND state = 'waiting' AND token IS NULL AND attempt = 0 AND expires_at <= clock_timestamp()
"""
CANCEL = "DELETE FROM public.jobs_job WHERE id = %(id)s AND state = 'waiting' AND token IS NULL AND attempt = 0"
REPLAY = """
    UPDATE public.jobs_job SET
        state = 'waiting', attempt = 0, retries = 0, kills = 0, lost = 0, transients = 0, snoozes = 0, sends = 0,
        token = NULL, deadline = NULL, unknown_since = NULL, expires_at = NULL, schedule = '',
        due_at = clock_timestamp(), next_send_at = clock_timestamp(), died_at = NULL
    WHERE id = %(id)s AND state = 'dead'
"""
# A message that can't run where it arrived. One that is in line again, is not due, or runs elsewhere is left alone.
DEFER = """
    UPDATE public.jobs_job SET next_send_at = clock_timestamp() + %(delay)s, error = %(reason)s
    WHERE id = %(id)s AND state = 'waiting' AND token IS NULL AND tag IS NULL AND due_at <= clock_timestamp()
"""
# A worker does not know its task. It is sent again soon, and not ever later: a deploy ends in minutes.
MARK_UNKNOWN = """
    UPDATE public.jobs_job SET
        unknown_since = coalesce(unknown_since, clock_timestamp()), error = %(reason)s,
        next_send_at = clock_timestamp() + %(delay)s
    WHERE id = %(id)s AND state = 'waiting' AND (token IS NULL OR lease_until <= clock_timestamp())
"""
# What a row says of its job, to somebody who did not claim it. None if its tenant is gone.
FIND = """
    SELECT
        job.tenant_id, coalesce(tenant.schema_name, 'public'),
        codec, args, kwargs, link, link_error, attempt, retries, transients, snoozes, job.created_at
    FROM public.jobs_job job LEFT JOIN public.tenants_tenant tenant ON tenant.id = job.tenant_id
    WHERE job.id = %(id)s AND (job.tenant_id IS NULL) = (tenant.id IS NULL)
"""
