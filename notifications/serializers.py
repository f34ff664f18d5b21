from rest_framework import serializers

from notifications.models import Message


class MessageSerializer(serializers.ModelSerializer[Message]):
    """Without the text: a mail may hold what only its recipient should read."""

    status = serializers.ChoiceField(
        choices=Message.Status.choices, source="outcome", help_text="`failed`: nothing will send it any more"
    )
    error = serializers.CharField(source="reason", help_text="Of the last attempt, or why there will be none")

    class Meta:
        model = Message
        fields = (
            "id", "to", "subject", "status", "attempts", "error", "job", "created_at", "updated_at", "sent_at",
        )  # fmt: skip
        read_only_fields = fields
