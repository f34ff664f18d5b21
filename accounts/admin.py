"""The public host's admin: the platform's staff, their groups and records, and sign-ups that wait to be provisioned."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts import rights
from accounts.models import User
from accounts.services import retry_sign_up
from tenants.admin import change_each
from tenants.models import SignUp, Tenant

GRANTS = ("is_staff", "is_superuser", "groups", "user_permissions")


@admin.register(User)
class StaffAdmin(UserAdmin):  # type: ignore[type-arg]  # not generic at run time
    """The platform's staff. accounts/rights.py says who may change whom."""

    ordering = ("email",)
    list_display = ("email", "full_name", "is_staff", "is_superuser", "is_active")
    list_filter = ("is_staff", "is_superuser", "is_active")
    search_fields = ("email", "full_name")
    readonly_fields = ("last_login", "created_at")
    fieldsets = (
        (None, {"fields": ("email", "full_name", "password")}),
        ("Rights", {"fields": ("is_active", *GRANTS)}),
        ("Times", {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "full_name", "usable_password", "password1", "password2")}),)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        may = super().has_change_permission(request, obj)
        return may and (obj is None or rights.may_change(request.user, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # the admin's log keeps who did what: deactivate instead

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        fields = [*super().get_readonly_fields(request, obj)]
        if not rights.may_grant(request.user):
            return [*fields, *GRANTS]
        return fields if request.user.is_superuser else [*fields, "is_superuser"]

    def formfield_for_manytomany(self, db_field: Any, request: Any, **options: Any) -> Any:
        if db_field.name == "user_permissions":
            options["queryset"] = _choices_of(request)
        elif db_field.name == "groups":
            options["queryset"] = rights.grantable_groups(request.user)
        return super().formfield_for_manytomany(db_field, request, **options)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        # Whoever changes their own password is asked for the old one.
        if self.get_object(request, unquote(id)) == request.user:
            return redirect("admin:password_change")
        return super().user_change_password(request, id, form_url)


admin.site.unregister(Group)


@admin.register(Group)
class StaffGroupAdmin(GroupAdmin):
    """Groups of staff. Whoever changes one gives rights to its members, or takes them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and rights.may_grant(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_grant(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_grant(request, obj)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **options: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, **{**options, "queryset": _choices_of(request)})


def _may_grant(request: HttpRequest, group: Group | None) -> bool:
    if not rights.may_grant(request.user):
        return False
    return group is None or rights.grantable_groups(request.user).filter(pk=group.pk).exists()


def _choices_of(request: HttpRequest) -> QuerySet[Any]:
    return rights.grantable_permissions(request.user).select_related("content_type")


@admin.register(LogEntry)
class RecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What staff did, in the admin and by commands. Nobody edits it."""

    list_display = ("action_time", "user", "content_type", "object_repr", "action_flag", "message")
    list_filter = ("action_flag", "content_type")
    list_select_related = ("user", "content_type")
    search_fields = ("user__email", "object_repr", "object_id", "change_message")
    ordering = ("-action_time",)

    @admin.display
    def message(self, entry: LogEntry) -> str:
        return entry.get_change_message()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LogEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LogEntry | None = None) -> bool:
        return False


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
