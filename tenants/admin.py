"""The tenants in the public host's admin, and the domains that rest after a deletion."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from tenants import services
from tenants.audit import record
from tenants.errors import Conflict
from tenants.models import Domain, QuarantinedDomain, Tenant


def change_each(
    request: HttpRequest, change: Callable[[Tenant], None], tenants: QuerySet[Tenant], *, done: str
) -> None:
    """Change the chosen tenants one by one. Record each, and show a message: `done`, or why it was refused."""
    for tenant in tenants:
        try:
            with transaction.atomic():
                change(tenant)
                record(tenant, f"{done.capitalize()}.", user=request.user)
        except Conflict as refusal:
            messages.error(request, str(refusal.detail))
        else:
            messages.success(request, f"{tenant}: {done}.")


class DomainInline(admin.TabularInline):  # type: ignore[type-arg]  # not generic at run time
    """The hosts of a tenant, to look at. A sign-up writes them, and a deletion removes them."""

    model = Domain
    fields = ("domain", "is_primary")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Tenants, to look at and rename. The status changes by actions, which the services check."""

    list_display = ("slug", "name", "status", "created_at")
    list_filter = ("status",)
    search_fields = ("slug", "name")
    ordering = ("slug",)
    fields = ("name", "timezone", "slug", "status", "failure", "schema_name", "created_at")
    readonly_fields = ("slug", "status", "failure", "schema_name", "created_at")
    inlines = (DomainInline,)
    actions = ("suspend", "resume", "delete_for_good")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # a tenant signs up through the API

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False  # deleting the row alone would leave its schema and its jobs behind

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        """Whether this member of staff may suspend and resume tenants."""
        return request.user.has_perm("tenants.suspend_tenant")

    def has_delete_for_good_permission(self, request: HttpRequest) -> bool:
        """Whether this member of staff may delete tenants with all their data."""
        return request.user.has_perm("tenants.delete_tenant")

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        # Saves what was edited and nothing else, because the status may have changed since the form was opened.
        obj.save(update_fields=form.changed_data)

    @admin.action(description="Suspend", permissions=["suspend"])
    def suspend(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        """Stop serving the chosen tenants."""
        change_each(request, services.suspend_tenant, tenants, done="suspended")

    @admin.action(description="Resume", permissions=["suspend"])
    def resume(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        """Serve the chosen tenants again."""
        change_each(request, services.resume_tenant, tenants, done="active again")

    @admin.action(description="Delete for good, with all data", permissions=["delete_for_good"])
    def delete_for_good(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> HttpResponse | None:
        """Ask for confirmation on a page of its own, then begin to delete the chosen tenants."""
        if "confirmed" in request.POST:
            change_each(request, services.delete_tenant, tenants, done="being deleted")
            return None
        context = {**self.admin_site.each_context(request), "title": "Delete for good?", "tenants": tenants}
        return TemplateResponse(request, "admin/tenants/tenant/confirm_deletion.html", context)


@admin.register(QuarantinedDomain)
class QuarantinedDomainAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The domains of deleted tenants. To delete one here frees it early."""

    list_display = ("domain", "until")
    search_fields = ("domain",)
    ordering = ("until",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[QuarantinedDomain]:
        return super().get_queryset(request).filter(until__gt=Now())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: QuarantinedDomain | None = None) -> bool:
        return False
