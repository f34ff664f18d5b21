"""The product's own views without tenancy: one schema, stock PostgreSQL, plain Celery that dispatches after commit."""

from bench.untenanted.celery import app as celery_app

__all__ = ["celery_app"]
