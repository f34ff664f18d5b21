from django.db import migrations

# Each of these raises on the server, in the round trip of the statement that calls it, so that a COMMIT which follows in
# the same message is not executed.

# The SQLSTATE is our own, so that nothing which a body does can be taken for it.
LEASE_LOST = """
CREATE FUNCTION public.jobs_lease_lost() RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'lease_lost' USING ERRCODE = 'TN001';
END
$$
"""
# A tenant's id, or NULL for `public`. The session keeps its plan; it may be made while the table is empty and has to
# suit a full one, so it never reads the whole table.
TENANT_OF = """
CREATE FUNCTION public.jobs_tenant_of(schema text, task text) RETURNS uuid LANGUAGE plpgsql
SET search_path = '' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    tenant_id uuid;
BEGIN
    IF schema = 'public' THEN
        RETURN NULL;
    END IF;
    SELECT tenant.id INTO tenant_id FROM public.tenants_tenant tenant WHERE tenant.schema_name = schema;
    IF NOT FOUND THEN
        RAISE invalid_parameter_value
            USING MESSAGE = format('%s was called in the schema %s, of no tenant', task, schema);
    END IF;
    RETURN tenant_id;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_next_tag"), ("tenants", "0001_initial")]
    operations = [
        migrations.RunSQL(LEASE_LOST, "DROP FUNCTION public.jobs_lease_lost()"),
        migrations.RunSQL(TENANT_OF, "DROP FUNCTION public.jobs_tenant_of(text, text)"),
    ]
