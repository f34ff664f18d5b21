"""Tenantry's peers: a small shop of our own writing, on each of them as its guide says, in an environment of its own.

`plain_celery` is Celery with its `DjangoTask`: one schema and no tenants. `tenant_schemas` is tenant-schemas-celery on
django-tenants. The shop itself is the same for both; nothing in them imports the product.
"""
