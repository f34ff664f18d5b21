"""Tenantry's peers: a small shop of our own writing, on each of them as its guide says, in an environment of its own.

`plain_celery` is Celery with its `DjangoTask`: one schema and no tenants. `tenant_schemas` is tenant-schemas-celery on
django-tenants. The shop itself is the same for both; nothing in them imports the product.

`procrastinate`, `django_tasks_db` and `chancy` keep their jobs in PostgreSQL. They have no shop: `make bench` measures
them with its own work.
"""
