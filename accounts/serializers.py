from typing import Any

from knox.models import AuthToken
from rest_framework import serializers
from rest_framework.fields import empty

from accounts.models import User
from accounts.passwords import OF_FIELD, check_new_password
from tenants.models import Tenant
from tenants.services import domain_of
from tenants.strict import ChoiceField, EmailField, NameField, NewEmailField, StrictSerializer
from tenants.text import MAX_PASSWORD_LENGTH, normalize_password
from tenants.validators import (
    MAX_SLUG_LENGTH,
    validate_not_reserved,
    validate_slug,
    validate_timezone,
)

TOGETHER = serializers.ErrorDetail("Give the old and the new password together.", "required")


class PasswordField(serializers.CharField):
    def __init__(self, **kwargs: Any) -> None:
        # The limit bounds the work of hashing.
        super().__init__(
            write_only=True,
            trim_whitespace=False,
            max_length=MAX_PASSWORD_LENGTH,
            style={"input_type": "password"},
            **kwargs,
        )


class NewPasswordField(PasswordField):
    """One that is going to be set, in its normal form. Its bounds, which the schema tells, hold for what is sent;
    `check_new_password` has the other rules.
    """

    def __init__(self, **kwargs: Any) -> None:
        rules = "More than spaces, not all digits, not among the most common ones, not like the name or the e-mail"
        super().__init__(help_text=rules, **kwargs)
        self.validators.extend(OF_FIELD)

    def run_validation(self, data: Any = empty) -> str:
        return normalize_password(super().run_validation(data))


class PersonSerializer(StrictSerializer):
    """Somebody who will log in."""

    email = NewEmailField()
    full_name = NameField()
    password = NewPasswordField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "password" in attrs:
            check_new_password(attrs["password"], User(email=attrs["email"], full_name=attrs["full_name"]))
        return attrs


class SignUpSerializer(StrictSerializer):
    name = NameField()
    slug = serializers.CharField(
        max_length=MAX_SLUG_LENGTH,
        validators=[validate_slug, validate_not_reserved],
        help_text="The organisation's name in its host. Some names are reserved, such as `www`",
    )
    timezone = serializers.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="A name of the IANA time zone database, such as `Europe/Berlin`",
    )
    owner = PersonSerializer()


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    """What anybody may know of an organisation. Once `active`, it is served on its domain."""

    domain = serializers.CharField(source="get_primary_domain.domain")

    class Meta:
        model = Tenant
        fields: tuple[str, ...] = ("slug", "name", "status", "domain")
        read_only_fields = fields


class OrganisationSerializer(serializers.ModelSerializer[Tenant]):
    """What its users know of their organisation."""

    domain = serializers.SerializerMethodField()

    class Meta:
        model = Tenant
        fields = ("slug", "name", "timezone", "domain", "is_confirmed", "created_at")
        read_only_fields = fields

    def get_domain(self, tenant: Tenant) -> str:
        return domain_of(tenant.slug)


class OrganisationChangeSerializer(StrictSerializer):
    name = NameField(required=False)
    timezone = serializers.CharField(
        max_length=64,
        validators=[validate_timezone],
        required=False,
        help_text="A name of the IANA time zone database, such as `Europe/Berlin`; dates in mails follow it",
    )


class SignedUpSerializer(TenantSerializer):
    status_url = serializers.HyperlinkedIdentityField(view_name="tenant-detail", lookup_field="slug")

    class Meta(TenantSerializer.Meta):
        fields = (*TenantSerializer.Meta.fields, "status_url")
        read_only_fields = fields


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields: tuple[str, ...] = (
            "id", "email", "full_name", "role", "is_active", "is_confirmed", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = fields


class NewUserSerializer(PersonSerializer):
    password = NewPasswordField(required=False)
    role = ChoiceField(choices=User.Role.choices)


class CreatedUserSerializer(UserSerializer):
    jobs = serializers.ListField(child=serializers.UUIDField(), help_text="What the creation has dispatched")

    class Meta(UserSerializer.Meta):
        fields = (*UserSerializer.Meta.fields, "jobs")
        read_only_fields = fields


class UserChangeSerializer(StrictSerializer):
    full_name = NameField(required=False)
    role = ChoiceField(choices=User.Role.choices, required=False)
    is_active = serializers.BooleanField(required=False)


class MeChangeSerializer(StrictSerializer):
    """What a user may change of themself. A new password needs the one until now, and ends the user's other tokens."""

    full_name = NameField(required=False)
    password = NewPasswordField(required=False)
    old_password = PasswordField(required=False, help_text="The one until now. A new one needs it")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for given, missing in (("password", "old_password"), ("old_password", "password")):
            if given in attrs and missing not in attrs:
                raise serializers.ValidationError({missing: [TOGETHER]})
        if "password" in attrs:
            check_new_password(attrs["password"], self.context["user"])
        return attrs


class CredentialsSerializer(StrictSerializer):
    email = serializers.CharField(max_length=254)
    password = PasswordField()


class LinkField(serializers.RegexField):
    """The text of a link: its id and its secret."""

    def __init__(self, **kwargs: Any) -> None:
        what = "What follows `link=` in the address that was mailed"
        told: dict[str, Any] = {"invalid": "Send what follows `link=` in the address that was mailed: 96 hex digits."}
        super().__init__(r"^[0-9a-f]{96}\Z", trim_whitespace=False, help_text=what, error_messages=told, **kwargs)


class ConfirmationSerializer(StrictSerializer):
    link = LinkField()


class PasswordResetSerializer(StrictSerializer):
    email = EmailField()


class PasswordSerializer(StrictSerializer):
    link = LinkField()
    password = NewPasswordField()


class SentLinkSerializer(serializers.Serializer[Any]):
    jobs = serializers.ListField(child=serializers.UUIDField(), help_text="What sends the mail")


class TokenSerializer(serializers.Serializer[AuthToken]):
    token = serializers.CharField(help_text="For the header `Authorization: Bearer <token>`")
    expires_at = serializers.DateTimeField()
