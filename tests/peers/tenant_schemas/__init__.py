"""The READMEs of django-tenants and tenant-schemas-celery, followed step by step."""

from tests.peers.tenant_schemas.celery import app as celery_app

__all__ = ("celery_app",)
