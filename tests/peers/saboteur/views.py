"""`POST /chaos/`, as `tests.chaos.saboteur.views` answers it."""

import json
import uuid
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from tests.peers.saboteur import tasks
from tests.peers.saboteur.faults import schema

NOTE = """
    INSERT INTO public.chaos_job (id, home, task, due, doomed)
    VALUES (%s, %s, %s, clock_timestamp() + %s * interval '1 second', %s)
"""


@csrf_exempt
def dispatch(request: HttpRequest) -> HttpResponse:
    asked: dict[str, Any] = json.loads(request.body)
    task = getattr(tasks, asked["probe"])
    options = {name: asked[name] for name in ("countdown",) if name in asked}
    job_id = str(uuid.uuid4())
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(NOTE, [job_id, schema(), task.name, asked.get("countdown", 0), asked.get("doomed", False)])
        arguments = {"home": schema(), **asked.get("kwargs", {})}
        task.apply_async_on_commit(kwargs=arguments, task_id=job_id, **options)
        if asked.get("roll_back"):
            transaction.set_rollback(True)
    return JsonResponse({"id": job_id}, status=201)
