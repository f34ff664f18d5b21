from functools import reduce
from operator import or_

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Q, QuerySet
from django_filters import rest_framework as filters
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.viewsets import GenericViewSet

from notifications.models import Message
from notifications.serializers import MessageSerializer
from tenants.filters import ChoiceFilter, TimesFilterSet
from tenants.text import spellings


class MessageFilter(TimesFilterSet):
    to = filters.CharFilter(method="sent_to", label="In any case, and any spelling of the domain")
    status = ChoiceFilter(field_name="outcome", choices=Message.Status.choices)

    class Meta:
        model = Message
        fields = ()

    def sent_to(self, messages: QuerySet[Message], name: str, email: str) -> QuerySet[Message]:
        """The messages to an address."""
        return messages.filter(reduce(or_, (Q(to__iexact=spelling) for spelling in spellings(email))))


class MessageViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Message]):
    """The organisation's mails. Owners and admins see all of them, a member those to their own address."""

    queryset = Message.objects.with_outcome()
    serializer_class = MessageSerializer
    filterset_class = MessageFilter
    lookup_value_converter = "id"

    def own(self, user: AbstractBaseUser) -> Q:
        """What is a user's own: the mails to their address."""
        return Q(to__iexact=user.get_username())
