"""How the platform's staff log in to the admin: with a password and a second factor."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth import authenticate
from django.contrib.auth.views import PasswordChangeView
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse

from accounts.lists import OfferedLists
from accounts.logins import is_own_password
from tenants.audit import record

# The same for each of the three, so that nobody finds out a password without the code.
REFUSAL = (
    "Please enter the correct e-mail, password and code of a member of staff. After some wrong ones, each doubles the "
    "time until the next one is looked at, up to a minute."
)


class StaffLoginForm(AdminAuthenticationForm):
    """E-mail, password, and a code."""

    code = forms.CharField(
        max_length=64,  # with the blanks and dashes of whoever types it
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
        help_text="From your authenticator app, or a recovery code",
    )

    error_messages = {  # noqa: RUF012  # Django declares it as the form's own
        **AdminAuthenticationForm.error_messages,
        "invalid_login": REFUSAL,
        "inactive": REFUSAL,
    }

    def clean(self) -> dict[str, Any]:
        """As Django's, whose backend gets the code with the password. Raises Throttled if they may not be tried yet."""
        cleaned: dict[str, Any] = self.cleaned_data
        if not (cleaned.get("username") and cleaned.get("password")):
            return cleaned
        self.user_cache = authenticate(
            self.request,
            username=cleaned["username"],
            password=cleaned["password"],
            one_time_password=cleaned.get("code", ""),
        )
        if self.user_cache is None:
            raise self.get_invalid_login_error()
        self.confirm_login_allowed(self.user_cache)
        return cleaned


class StaffPasswordChangeForm(AdminPasswordChangeForm):
    """Django's, in which the old password is tried as at log-in."""

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        """As Django's. Raises Throttled if it may not be tried yet."""
        old_password: str = self.cleaned_data["old_password"]
        if not is_own_password(self.user, old_password, request=self.request):
            raise forms.ValidationError(self.error_messages["password_incorrect"], "password_incorrect")
        return old_password


class StaffPasswordChangeView(PasswordChangeView):
    """Django's, whose form knows the request."""

    form_class = StaffPasswordChangeForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}


class StaffSite(AdminSite):
    """The admin, for staff with a second factor; without one where STAFF_SECOND_FACTOR is off."""

    login_template = "admin/staff_login.html"

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """As Django's. The lists of whatever class it is are `OfferedLists`."""
        own = admin_class or ModelAdmin
        offered = type(own.__name__, (OfferedLists, own), {"__module__": own.__module__})
        super().register(model_or_iterable, offered, **options)

    def get_urls(self) -> list[Any]:
        """As Django's, without the page that leads from an object to its own: no model here has one."""
        return [url for url in super().get_urls() if getattr(url, "name", None) != "view_on_site"]

    @property
    def login_form(self) -> type[AdminAuthenticationForm]:  # type: ignore[override]  # Django only reads it
        return StaffLoginForm if settings.STAFF_SECOND_FACTOR else AdminAuthenticationForm

    def has_permission(self, request: HttpRequest) -> bool:
        user: Any = request.user
        return super().has_permission(request) and (user.is_verified() or not settings.STAFF_SECOND_FACTOR)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """As Django's, with our form, and recorded."""
        request.current_app = self.name
        view = StaffPasswordChangeView.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        with transaction.atomic():
            response = view(request)
            if request.method == "POST" and response.status_code == 302:
                user: Any = request.user
                record(user, "Changed their own password.", user=user)
        return response
