"""How many mails an organisation may send, by the policy `mail`. Those beyond it wait, and none is lost."""

from limits.rates import count, longest_wait
from notifications.limited import log_refusal
from notifications.models import Message
from tenants.connection import connection

WAITS = "The organisation has sent as many mails as it may; this one waits until it may send more"


def seconds_to_wait(*, message_id: str) -> int:
    """For how long a message has to wait; 0 if it may go now. It counts once, however often it is tried."""
    untried = Message.objects.filter(pk=message_id, attempts=0)
    if (to := untried.values_list("to", flat=True).first()) is None:
        return 0
    wait = longest_wait(count({"mail": connection.schema_name})) or 0
    if wait:
        untried.update(error=WAITS)
        log_refusal(to=to, limit="mail")
    return wait
