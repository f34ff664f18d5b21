-- Makes one tenant what it was when a backup was made: its schema, its row and hosts, its jobs. Others are not touched.
-- docs/how-to/back-up-and-restore.md says how to make rows.sql and schema.sql, and how to run this, in one transaction.

-- What `public` knew of all tenants then. A column that is new since gets its default.
CREATE TEMPORARY TABLE tenants_tenant (LIKE public.tenants_tenant INCLUDING DEFAULTS);
CREATE TEMPORARY TABLE tenants_domain (LIKE public.tenants_domain INCLUDING DEFAULTS);
CREATE TEMPORARY TABLE jobs_job (LIKE public.jobs_job INCLUDING DEFAULTS);
\i rows.sql
DELETE FROM pg_temp.tenants_tenant WHERE slug <> :'slug' OR status NOT IN ('active', 'suspended');
DELETE FROM pg_temp.tenants_domain WHERE tenant_id NOT IN (SELECT id FROM pg_temp.tenants_tenant);
DELETE FROM pg_temp.jobs_job WHERE tenant_id IS NULL OR tenant_id NOT IN (SELECT id FROM pg_temp.tenants_tenant);

DO $$
DECLARE
    home uuid := (SELECT id FROM pg_temp.tenants_tenant);
BEGIN
    IF home IS NULL THEN
        RAISE 'The backup has no such tenant that was active or suspended.';
    END IF;
    IF EXISTS (SELECT FROM public.tenants_tenant WHERE id = home AND status <> 'suspended') THEN
        RAISE 'The tenant is served. Suspend it first.';
    END IF;
    -- The lock that the bodies of its jobs share (TENANT_LOCK in jobs/claim.py).
    IF NOT pg_catalog.pg_try_advisory_xact_lock(32330, pg_catalog.hashtext(home::text))
        OR EXISTS (
            SELECT FROM public.jobs_job
            WHERE tenant_id = home AND token IS NOT NULL AND lease_until > pg_catalog.clock_timestamp()
        )
    THEN
        RAISE 'Jobs of the tenant still run. Try again in a moment.';
    END IF;
END
$$;

-- Its row. Staff resume it when all is well.
UPDATE pg_temp.tenants_tenant SET status = 'suspended';
INSERT INTO public.tenants_tenant SELECT * FROM pg_temp.tenants_tenant
ON CONFLICT (id) DO UPDATE SET name = excluded.name, timezone = excluded.timezone;

-- Its hosts, if it has none any more. Their ids may be others' by now. The tenant that left them has them again, so their
-- quarantine is over.
WITH restored AS (
    INSERT INTO public.tenants_domain (domain, is_primary, tenant_id)
    SELECT domain, is_primary, tenant_id FROM pg_temp.tenants_domain
    WHERE tenant_id NOT IN (SELECT tenant_id FROM public.tenants_domain)
    RETURNING domain
)
DELETE FROM public.tenants_quarantineddomain WHERE domain IN (SELECT domain FROM restored);

-- Its schema.
SELECT schema_name AS schema FROM pg_temp.tenants_tenant \gset
DROP SCHEMA IF EXISTS :"schema" CASCADE;
CREATE SCHEMA :"schema";
\i schema.sql

-- Its jobs, in the order of then. Nobody runs one, and none has a place in the line of today: each gets one when it is due.
DELETE FROM public.jobs_job WHERE tenant_id IN (SELECT id FROM pg_temp.tenants_tenant);
UPDATE pg_temp.jobs_job job SET
    seq = place.seq, tag = NULL, token = NULL, lease_until = NULL, deadline = NULL, unknown_since = NULL,
    next_send_at = CASE state WHEN 'waiting' THEN due_at ELSE next_send_at END
FROM (
    SELECT id, pg_catalog.nextval('public.jobs_job_seq') AS seq
    FROM (SELECT id FROM pg_temp.jobs_job ORDER BY seq) AS ordered
) AS place
WHERE place.id = job.id;
INSERT INTO public.jobs_job SELECT * FROM pg_temp.jobs_job;
