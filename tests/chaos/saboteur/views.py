"""`POST /chaos/` on a tenant's host: dispatch probes, and note in the same transaction what was dispatched."""

import json
from contextlib import suppress
from typing import Any

from django.db import DataError, InternalError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from tenants.connection import connection
from tests.chaos.saboteur import tasks

OPTIONS = ("countdown", "time_limit", "soft_time_limit")
NOTE = """
    INSERT INTO public.chaos_job (id, home, task, due, doomed)
    SELECT id, %s, task, due_at, %s FROM public.jobs_job WHERE id = %s
"""


@csrf_exempt
def dispatch(request: HttpRequest) -> HttpResponse:
    """`{"probe", "kwargs", OPTIONS, "roll_back", "doomed"}`; the id of the job (that never was, if rolled back).

    With "swallow", a statement fails in the transaction and nobody says so: there is no job, and no id.
    """
    asked: dict[str, Any] = json.loads(request.body)
    try:
        return JsonResponse({"id": _dispatch(asked)}, status=201)
    except InternalError as error:
        return JsonResponse({"detail": str(error)}, status=400)


def _dispatch(asked: dict[str, Any]) -> str:
    task = getattr(tasks, asked["probe"])
    options = {name: asked[name] for name in OPTIONS if name in asked}
    with transaction.atomic():
        arguments = {"home": connection.schema_name, **asked.get("kwargs", {})}
        job_id = task.apply_async_on_commit(kwargs=arguments, **options)
        with connection.cursor() as cursor:
            cursor.execute(NOTE, [connection.schema_name, asked.get("doomed", False), job_id])
            if asked.get("swallow"):
                with suppress(DataError):
                    cursor.execute("SELECT 1 / 0")
        if asked.get("roll_back"):
            transaction.set_rollback(True)
    return str(job_id)
