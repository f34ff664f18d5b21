"""How the platform's staff log in to the admin: with a password and a second factor."""

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django_otp.admin import OTPAdminAuthenticationForm, OTPAdminSite

from tenants.audit import record

# The same for each of the three, so that nobody finds out a password without the code.
REFUSAL = (
    "Please enter the correct e-mail, password and code of a member of staff. After a wrong code, wait a moment: each "
    "doubles the time until the next one is looked at."
)


class StaffLoginForm(OTPAdminAuthenticationForm):
    """E-mail, password, and a code of the authenticator app or a recovery code."""

    # One code is tried on each of the user's devices, and none of them sends a challenge.
    otp_device = None
    otp_challenge = None
    otp_token = forms.CharField(
        label="Code",
        max_length=16,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
        help_text="From your authenticator app, or a recovery code",
    )

    error_messages: ClassVar[dict[str, Any]] = {
        **AdminAuthenticationForm.error_messages,
        "invalid_login": REFUSAL,
        "inactive": REFUSAL,
    }
    otp_error_messages: ClassVar[dict[str, Any]] = {
        **OTPAdminAuthenticationForm.otp_error_messages,
        "token_required": REFUSAL,
        "invalid_token": REFUSAL,
    }

    def clean(self) -> Any:
        """As the library's. A right password with a wrong code is a failed log-in for Django, too."""
        try:
            return super().clean()
        except ValidationError:
            self.fields["password"].widget.render_value = False
            if self.get_user() is not None:
                credentials = {"username": self.cleaned_data.get("username")}
                user_login_failed.send(sender=__name__, credentials=credentials, request=self.request)
            raise


class StaffSite(OTPAdminSite):
    """The admin, for staff with a second factor; without one where STAFF_SECOND_FACTOR is off."""

    login_template = "admin/staff_login.html"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)

    @property
    def login_form(self) -> type[AdminAuthenticationForm]:
        return StaffLoginForm if settings.STAFF_SECOND_FACTOR else AdminAuthenticationForm

    def has_permission(self, request: HttpRequest) -> bool:
        if settings.STAFF_SECOND_FACTOR:
            return bool(super().has_permission(request))
        return AdminSite.has_permission(self, request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """As Django's, and recorded."""
        with transaction.atomic():
            response: HttpResponse = super().password_change(request, extra_context)
            if request.method == "POST" and response.status_code == 302:
                record(request.user, "Changed their own password.", user=request.user)
        return response
