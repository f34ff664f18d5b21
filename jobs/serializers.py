"""A job, as the API shows it."""

from typing import Any

from rest_framework import serializers


class JobSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    task = serializers.CharField()
    state = serializers.ChoiceField(
        choices=["pending", "started", "retry", "success", "failure", "dead", "revoked", "ignored"],
        help_text="`success`: it has run; read the order or the message for what became of it. `dead`: it failed for "
        "good, and an owner may let it run again. `failure`: it failed for good, and can't run again.",
    )
    attempts = serializers.IntegerField()
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField(
        allow_null=True, help_text="Class and message of the exception; of a driver's, class and SQLSTATE alone"
    )
    traceback = serializers.CharField(allow_null=True, help_text="Always null: staff read it in the admin")
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
