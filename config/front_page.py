"""`/` of each host, for people with a browser."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_exempt

from config.problems import nowhere


@csrf_exempt
def show_docs(request: HttpRequest) -> HttpResponse:
    """Lead to the page that documents the API. Other methods find nothing, as at any address that is not there."""
    if request.method not in ("GET", "HEAD"):
        return nowhere(request)
    return redirect("docs")
