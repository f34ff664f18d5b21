from django.db.models import QuerySet
from django_filters import rest_framework as filters

from accounts.models import User


class UserFilter(filters.FilterSet):
    email = filters.CharFilter(method="with_email", label="In any case")

    class Meta:
        model = User
        fields = ("role", "is_active")

    def with_email(self, users: QuerySet[User], name: str, email: str) -> QuerySet[User]:
        return users.filter(pk__in=User.objects.with_email(email))
