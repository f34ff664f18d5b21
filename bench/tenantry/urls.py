"""The product's, and a view that dispatches as many jobs as it is told to."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from bench.work.tasks import look_and_tell
from config import urls
from config.urls import handler400, handler403, handler404, handler500
from tenants.connection import connection

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]


@csrf_exempt
def dispatch(request: HttpRequest, times: int) -> HttpResponse:
    look_and_tell.map_on_commit([[connection.schema_name]] * times)
    return HttpResponse(status=201)


urlpatterns: list[Any] = [path("bench/<int:times>/", dispatch), *urls.urlpatterns]
