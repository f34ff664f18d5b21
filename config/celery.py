import os

from jobs.celery_hooks.app import TenantCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = TenantCelery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task(bind=True, ignore_result=True)
def debug_task(self):  # type: ignore[no-untyped-def]  # as in Celery's Django guide
    print(f"Request: {self.request!r}")
