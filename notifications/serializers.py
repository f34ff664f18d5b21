from rest_framework import serializers

from notifications.models import Message


class MessageSerializer(serializers.ModelSerializer[Message]):
    """Without the text: a mail may hold what only its recipient should read."""

    class Meta:
        model = Message
        fields = ("id", "to", "subject", "status", "attempts", "error", "created_at", "updated_at", "sent_at")
        read_only_fields = fields
