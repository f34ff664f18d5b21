from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field

from accounts.models import User
from tenants.filters import TimesFilterSet


class UserFilter(TimesFilterSet):
    # django-filter's own takes anything else than true and false for "any".
    is_active = extend_schema_field(OpenApiTypes.BOOL)(
        filters.TypedChoiceFilter(
            choices=[("true", "true"), ("false", "false")],
            coerce="true".__eq__,
            error_messages={"invalid_choice": "Give true or false."},
        )
    )
    email = filters.CharFilter(method="with_email", label="In any case")

    class Meta:
        model = User
        fields = ("role",)

    def with_email(self, users: QuerySet[User], name: str, email: str) -> QuerySet[User]:
        return users.filter(pk__in=User.objects.with_email(email))
