"""Celery's guide for Django, "First steps with Django", followed step by step."""

from tests.peers.plain_celery.celery import app as celery_app

__all__ = ("celery_app",)
