from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts import link_services, services
from accounts.filters import UserFilter
from accounts.models import User
from accounts.requests import UserRequest
from accounts.serializers import (
    ConfirmationSerializer,
    CreatedUserSerializer,
    CredentialsSerializer,
    MeChangeSerializer,
    NewUserSerializer,
    OrganisationChangeSerializer,
    OrganisationSerializer,
    PasswordResetSerializer,
    PasswordSerializer,
    SentLinkSerializer,
    SignedUpSerializer,
    SignUpSerializer,
    TenantSerializer,
    TokenSerializer,
    UserChangeSerializer,
    UserSerializer,
)
from idempotency.views import idempotent
from limits.addresses import client_address
from tenants.errors import answers
from tenants.models import Tenant
from tenants.services import current_tenant, update_tenant
from tenants.strict import StrictSerializer
from tenants.validators import validate_slug

#: For answers to what holds a password, a token or a link
NO_STORE = {"Cache-Control": "no-store"}


def _slug(request: Request) -> str | None:
    """Whose key it is, when there is no user yet."""
    slug = str(request.data.get("slug")).strip() if isinstance(request.data, dict) else ""
    try:
        validate_slug(slug)
    except ValidationError:
        return None
    return slug


def _what_is_told(body: dict[str, Any]) -> dict[str, Any]:
    """What anybody may know of a sign-up. Nobody is logged in, so a key must not tell who signed up."""
    return {name: body.get(name) for name in ("slug", "name")}


class TenantViewSet(RetrieveModelMixin, GenericViewSet[Tenant]):
    """Organisations; on the public host, without a token."""

    authentication_classes = ()
    queryset = Tenant.objects.all()
    serializer_class = TenantSerializer
    lookup_field = "slug"
    lookup_value_regex = "[A-Za-z0-9-]+"

    def get_object(self) -> Tenant:
        # In any case, as a host and the header.
        self.kwargs["slug"] = self.kwargs["slug"].lower()
        return super().get_object()

    @property
    def throttle_scope(self) -> str | None:
        return "sign_up" if self.action == "create" else None

    @extend_schema(request=SignUpSerializer, responses={202: SignedUpSerializer})
    @answers("slug_taken", "sign_up_failed")
    @idempotent(owner=_slug, known_by=_what_is_told)
    def create(self, request: Request) -> Response:
        """Sign up an organisation. It is set up in the background: ask `status_url` until it is `active`.

        Its owner gets a link to confirm their address. Until then its mails are limited, and it goes after some days.
        """
        tenant = services.sign_up(**_valid(SignUpSerializer(data=request.data)))
        signed_up = SignedUpSerializer(tenant, context=self.get_serializer_context()).data
        # Plain text: the serializer's is a Hyperlink.
        location = str(signed_up["status_url"])
        return Response(signed_up, status=status.HTTP_202_ACCEPTED, headers={"Location": location})


class OrganisationView(APIView):
    """The organisation of this request. All of its users see it, and owners change it."""

    @extend_schema(responses=OrganisationSerializer)
    def get(self, request: UserRequest) -> Response:
        """Read the organisation."""
        return Response(OrganisationSerializer(current_tenant()).data)

    @extend_schema(request=OrganisationChangeSerializer, responses=OrganisationSerializer)
    def patch(self, request: UserRequest) -> Response:
        """Change the organisation. Its time zone is what dates in mails follow."""
        changes = _valid(OrganisationChangeSerializer(data=request.data))
        return Response(OrganisationSerializer(update_tenant(current_tenant(), **changes)).data)


class OpenView(APIView):
    """What needs no token."""

    authentication_classes = ()
    throttle_scope: str | None = "login"


class TokensView(OpenView):
    throttle_scope = None  # a log-in counts where its password is checked

    def get_authenticate_header(self, request: Request) -> str:
        # Without one, DRF would answer wrong credentials with 403.
        return "Bearer"

    @extend_schema(request=CredentialsSerializer, responses={201: TokenSerializer})
    @answers("wrong_credentials")
    def post(self, request: Request) -> Response:
        """Log in."""
        token, secret = services.log_in(request=request, **_valid(CredentialsSerializer(data=request.data)))
        answer = TokenSerializer({"token": secret, "expires_at": token.expiry}).data
        headers = NO_STORE | {"Location": reverse("current-token", request=request)}
        return Response(answer, status=status.HTTP_201_CREATED, headers=headers)


class CurrentTokenView(APIView):
    @extend_schema(responses={204: None})
    def delete(self, request: UserRequest) -> Response:
        """Log out. The token of this request ends."""
        services.log_out(request.auth)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ConfirmationsView(OpenView):
    @extend_schema(request=ConfirmationSerializer, responses={204: None})
    @answers("dead_link")
    def post(self, request: Request) -> Response:
        """Confirm an address by the link that was mailed there."""
        link_services.confirm_address(**_valid(ConfirmationSerializer(data=request.data)))
        return Response(status=status.HTTP_204_NO_CONTENT, headers=NO_STORE)


class PasswordResetsView(OpenView):
    @extend_schema(request=PasswordResetSerializer, responses={202: None})
    def post(self, request: Request) -> Response:
        """Mail a link to set a new password. The answer is the same if no user has this address."""
        asked = _valid(PasswordResetSerializer(data=request.data))
        link_services.request_password_reset(**asked, address=client_address(request))
        return Response(status=status.HTTP_202_ACCEPTED, headers=NO_STORE)


class PasswordsView(OpenView):
    @extend_schema(request=PasswordSerializer, responses={204: None})
    @answers("dead_link")
    def post(self, request: Request) -> Response:
        """Set a password by the link that was mailed. That ends the user's tokens and confirms their address."""
        link_services.set_password(**_valid(PasswordSerializer(data=request.data)))
        return Response(status=status.HTTP_204_NO_CONTENT, headers=NO_STORE)


class UserViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[User]):
    """The organisation's users. Owners and admins see all of them, a member only themself."""

    request: UserRequest
    queryset = User.objects.all()
    serializer_class = UserSerializer
    filterset_class = UserFilter
    lookup_value_converter = "id"

    def own(self, user: User) -> Q:
        """What is a user's own: themself."""
        return Q(pk=user.pk)

    @extend_schema(request=NewUserSerializer, responses={201: CreatedUserSerializer})
    @answers("permission_denied", "email_taken")
    @idempotent()
    def create(self, request: UserRequest) -> Response:
        """Create a user. Owners may create anybody, admins anybody but owners.

        The user gets a link by mail: to confirm the address, or to set a password if the request has none.
        """
        person = _valid(NewUserSerializer(data=request.data))
        user, jobs = services.create_user(actor=request.user, request=request, **person)
        location = reverse("user-detail", kwargs={"pk": user.pk}, request=request)
        created = {**UserSerializer(user).data, "jobs": jobs}
        return Response(created, status=status.HTTP_201_CREATED, headers={"Location": location})

    @extend_schema(request=UserChangeSerializer, responses=UserSerializer)
    @answers("permission_denied", "last_owner")
    def partial_update(self, request: UserRequest, pk: UUID) -> Response:
        """Change a user. Deactivation ends the user's tokens."""
        user = self.get_object()
        changes = _valid(UserChangeSerializer(data=request.data))
        changed = services.update_user(actor=request.user, user_id=user.pk, **changes)
        return Response(UserSerializer(changed).data)

    @extend_schema(request=None, responses={202: SentLinkSerializer})
    @answers("already_confirmed")
    @action(methods=["post"], detail=True)
    def link(self, request: UserRequest, pk: UUID) -> Response:
        """Mail a user a new link. It is to set a password if there is none, else to confirm the address."""
        _valid(StrictSerializer(data=request.data))
        jobs = link_services.send_new_link(user=self.get_object())
        return Response({"jobs": jobs}, status=status.HTTP_202_ACCEPTED, headers=NO_STORE)

    @extend_schema(responses=UserSerializer)
    @action(detail=False)
    def me(self, request: UserRequest) -> Response:
        """Read the user whose token this is."""
        return Response(UserSerializer(request.user).data)

    @extend_schema(request=MeChangeSerializer, responses=UserSerializer)
    @me.mapping.patch
    def change_me(self, request: UserRequest) -> Response:
        """Change the user whose token this is. A new password needs the old one, and ends the user's other tokens."""
        changes = _valid(MeChangeSerializer(data=request.data, context={"user": request.user}))
        user = services.update_me(actor=request.user, token=request.auth, request=request, **changes)
        return Response(UserSerializer(user).data)


def _valid(serializer: BaseSerializer[Any]) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
