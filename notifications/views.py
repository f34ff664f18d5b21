from django.db.models import QuerySet
from django_filters import rest_framework as filters
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.viewsets import GenericViewSet

from notifications.models import Message
from notifications.serializers import MessageSerializer


class MessageFilter(filters.FilterSet):
    to = filters.CharFilter(lookup_expr="iexact")
    created = filters.IsoDateTimeFromToRangeFilter(field_name="created_at")
    updated_after = filters.IsoDateTimeFilter(field_name="updated_at", lookup_expr="gte")
    updated_before = filters.IsoDateTimeFilter(field_name="updated_at", lookup_expr="lte")

    class Meta:
        model = Message
        fields = ("status",)


class MessageViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Message]):
    """The organisation's mails. Owners and admins see all of them, a member those to their own address."""

    queryset = Message.objects.all()
    serializer_class = MessageSerializer
    filterset_class = MessageFilter
    lookup_value_converter = "id"

    def get_queryset(self) -> QuerySet[Message]:
        user, messages = self.request.user, super().get_queryset()
        if user.is_authenticated and user.role in ("owner", "admin"):
            return messages
        return messages.filter(to__iexact=user.get_username())
