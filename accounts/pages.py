"""The page that a mailed link leads to, for people who have no client of the API at hand."""

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import ValidationError

from accounts import link_services
from accounts.errors import DeadLink
from accounts.links import Purpose, find_link
from accounts.serializers import PasswordSerializer
from tenants.middleware import host_of


# Whoever has the link may use it. A session would add nothing, and there is none.
@method_decorator(csrf_exempt, name="dispatch")
class LinkPage(View):
    """Shows what a link is for, and does it when its form is sent. A GET changes nothing: mail scanners send them."""

    http_method_names = ("get", "head", "post")

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the form of a link that works."""
        return self._show(request.GET.get("link", ""))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Confirm the address, or set the password."""
        text = request.POST.get("link", "")
        try:
            done = self._use(text, request.POST.get("password"))
        except DeadLink:
            return self._show("")
        except ValidationError as refusal:
            return self._show(text, errors=list(_messages(refusal.detail)))
        return self._render(done=done)

    def _use(self, text: str, password: str | None) -> str:
        """What was done. Raises DeadLink or ValidationError."""
        if password is None:
            link_services.confirm_address(link=text)
            return "Your address is confirmed."
        form = PasswordSerializer(data={"link": text, "password": password})
        form.is_valid(raise_exception=True)
        link_services.set_password(**form.validated_data)
        return "Your password is set, and your address is confirmed. You can log in now."

    def _show(self, text: str, errors: Any = ()) -> HttpResponse:
        try:
            link = find_link(text, *Purpose)
        except DeadLink as dead:
            return self._render(status=410, dead=dead.detail)
        return self._render(status=400 if errors else 200, link=link, text=text, errors=errors)

    def _render(self, *, status: int = 200, **context: Any) -> HttpResponse:
        context["host"] = host_of(self.request)
        response = HttpResponse(render_to_string("accounts/link.html", context), status=status)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _messages(detail: Any) -> Iterator[str]:
    """The texts in DRF's nested details."""
    if isinstance(detail, dict):
        detail = list(detail.values())
    if isinstance(detail, list):
        for part in detail:
            yield from _messages(part)
    else:
        yield str(detail)
