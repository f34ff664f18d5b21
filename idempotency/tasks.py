from celery import shared_task

from idempotency import services


@shared_task
def forget_expired() -> int:
    return services.forget_expired()


@shared_task
def forget_expired_everywhere() -> int:
    return services.forget_expired_everywhere()
