from django.db import migrations

# For the triggers of all schemas. The order matters: from the first call on, other sessions see that this transaction
# writes, so whoever reads the clock later and sees no such transaction knows that it has ended or has not begun to
# write. tenants/changes.py does so.
SET_UPDATED_AT = """
CREATE FUNCTION public.tenants_set_updated_at() RETURNS trigger LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_catalog.pg_current_xact_id();
    NEW.updated_at := pg_catalog.clock_timestamp();
    RETURN NEW;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_spare")]
    operations = [migrations.RunSQL(SET_UPDATED_AT, "DROP FUNCTION public.tenants_set_updated_at()")]
