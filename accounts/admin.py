"""The public host's admin: the platform's staff, and sign-ups that wait to be provisioned."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import User
from accounts.services import retry_sign_up
from tenants.admin import change_each
from tenants.models import SignUp, Tenant


@admin.register(User)
class StaffAdmin(UserAdmin):  # type: ignore[type-arg]  # not generic at run time
    ordering = ("email",)
    list_display = ("email", "full_name", "is_staff", "is_superuser", "is_active")
    list_filter = ("is_staff", "is_superuser", "is_active")
    search_fields = ("email", "full_name")
    readonly_fields = ("last_login", "created_at")
    fieldsets = (
        (None, {"fields": ("email", "full_name", "password")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Times", {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "full_name", "usable_password", "password1", "password2")}),)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # the admin's log keeps who did what: deactivate instead


@admin.register(SignUp)
class SignUpAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What is not provisioned yet. The row goes when the owner exists."""

    list_display = ("tenant", "email", "status", "failure")
    list_filter = ("tenant__status",)
    list_select_related = ("tenant",)
    fields = readonly_fields = ("tenant", "email", "full_name", "status", "failure")
    actions = ("retry",)

    @admin.display(ordering="tenant__status")
    def status(self, signing_up: SignUp) -> str:
        return signing_up.tenant.status

    @admin.display
    def failure(self, signing_up: SignUp) -> str:
        return signing_up.tenant.failure

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: SignUp | None = None) -> bool:
        return False

    @admin.action(description="Provision again", permissions=["change"])
    def retry(self, request: HttpRequest, sign_ups: QuerySet[SignUp]) -> None:
        tenants = Tenant.objects.filter(signup__in=sign_ups)
        change_each(request, retry_sign_up, tenants, done="being provisioned again")
