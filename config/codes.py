"""The one registry of problem codes: what each means, and what to do about it.

An answer's `code` and `type` come from here, and so do the pages at `/problems/` and the schema's examples. A room
below raises its codes as plain strings; a test fails when one is missing here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A kind of error. `code` and `status` never change within v1; a client may see codes that it doesn't know."""

    code: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def type(self) -> str:
        """Where every host explains it: a URL, relative to the request's."""
        return f"/problems/{self.code}"


# fmt: off
#: Each code that an answer of the API or of the admin can have. Its page is `/problems/<code>`.
REGISTRY: dict[str, Problem] = {problem.code: problem for problem in (
    Problem("bad_host", 400, "No such host",
            "The Host header names no host of this site.",
            "Send the request to the public host, or to `<slug>.` before it."),
    Problem("bad_request", 400, "The request can't be understood",
            "The request breaks a rule of HTTP, or goes beyond a limit of the server's.",
            "Look at its headers, its query and its size."),
    Problem("bad_tenant", 400, "The Tenant header is malformed",
            "The Tenant header holds one slug, such as `Tenant: acme`.",
            "Send the slug that the organisation signed up with."),
    Problem("bad_idempotency_key", 400, "The Idempotency-Key is malformed",
            "Idempotency-Key takes 1 to 255 printable ASCII characters.",
            "Send the request again with a random UUID."),
    Problem("invalid", 400, "The request is not valid",
            "Parts of the body or of the query break a rule. `errors` names each part and its rule.",
            "Mend what `errors` names, and send the request again."),
    Problem("parse_error", 400, "The body is no JSON",
            "The body is not JSON in UTF-8, or is nested too deeply.",
            "Send one JSON object."),
    Problem("tenant_mismatch", 400, "Two organisations are named",
            "The host and the Tenant header name different organisations.",
            "Leave out the header, or send the request to the public host."),
    Problem("authentication_failed", 401, "The Authorization header is malformed",
            "The header is not of the form `Authorization: Bearer <token>`.",
            "Send the token that `POST /api/v1/tokens/` answers."),
    Problem("invalid_token", 401, "The token is not valid here",
            "The token is unknown in this organisation, has expired, was ended, or its user is not active.",
            "Log in again on this organisation's host."),
    Problem("not_authenticated", 401, "A token is needed",
            "The request has no `Authorization: Bearer <token>`.",
            "Log in with `POST /api/v1/tokens/`, and send the token."),
    Problem("wrong_credentials", 401, "The log-in was refused",
            "The e-mail or the password is wrong, or the user is not active.",
            "Try other credentials, or ask an owner of the organisation."),
    Problem("csrf_failed", 403, "The form has expired",
            "A form of the admin came without its cookie, or with an old one.",
            "Reload the page, and send the form again."),
    Problem("permission_denied", 403, "You may not do that",
            "The user's role does not allow it; `detail` says which one does.",
            "Ask an owner or an admin of the organisation."),
    Problem("tenant_deleting", 403, "The organisation is being deleted",
            "The organisation is being deleted for good.",
            "Nothing: it will not come back."),
    Problem("tenant_suspended", 403, "The organisation is suspended",
            "The platform's staff has suspended the organisation. Its data is kept, and its jobs wait.",
            "Ask the platform's staff."),
    Problem("not_found", 404, "There is nothing here",
            "Nothing has this address, or the user may not see it.",
            "Look at the id, the host, and the slash at the end of the address."),
    Problem("tenant_not_found", 404, "No such organisation",
            "No organisation has this host, or the slug of the Tenant header.",
            "Look at the host, which is the `domain` of the organisation, and at the header."),
    Problem("method_not_allowed", 405, "The method is not offered",
            "The address exists, and does not take this method.",
            "Use a method of the `Allow` header."),
    Problem("not_acceptable", 406, "No such format",
            "The Accept header allows no type that is offered here.",
            "Ask for `application/json`."),
    Problem("conflict", 409, "That is not possible now",
            "The request is valid, but the present state does not allow what it asks for.",
            "Read the resource again, and decide anew."),
    Problem("email_taken", 409, "The e-mail is taken",
            "A user of this organisation has this e-mail already, in some case.",
            "Choose another e-mail, or change that user."),
    Problem("illegal_state", 409, "The job's state does not allow it",
            "A dead job can be run again, and a job that has not begun can be cancelled; this one is neither.",
            "Read the job: its `state` says what can be done."),
    Problem("illegal_status", 409, "The organisation's status does not allow it",
            "The organisation's status can't change like this.",
            "Read its status again."),
    Problem("last_owner", 409, "An organisation needs an owner",
            "The change would leave the organisation without an active owner.",
            "Make somebody else an owner first."),
    Problem("order_cancelled", 409, "The order was cancelled",
            "The order was cancelled, and stays so.",
            "Place a new order."),
    Problem("order_paid", 409, "The order is paid",
            "A card was charged for the order already.",
            "Nothing: read the order."),
    Problem("payment_in_progress", 409, "A card is being charged",
            "A card is being charged for this order, or is about to be.",
            "Wait until the last of the order's `jobs` has ended, and read the order."),
    Problem("payment_unsettled", 409, "Nobody knows whether a card was charged",
            "The job that charged a card for this order is dead, and the outcome is unknown.",
            "Let that job run again, `POST /api/v1/jobs/{id}/retry/`: it asks the gateway with the same key."),
    Problem("request_in_progress", 409, "The first request is still running",
            "A request with this Idempotency-Key has not ended yet.",
            "Send the same request again after `Retry-After` seconds."),
    Problem("sign_up_failed", 409, "The organisation could not be set up",
            "This slug was signed up, and setting it up failed.",
            "Ask the platform's staff, or choose another slug."),
    Problem("slug_taken", 409, "The slug is taken",
            "Another organisation has this slug.",
            "Choose another."),
    Problem("too_many_payments", 409, "Too many cards were tried",
            "As many cards were tried for the order as one may.",
            "Place a new order."),
    Problem("length_required", 411, "The body's length is missing",
            "The body came without its length, and nothing in front of this API counted it.",
            "Send a Content-Length."),
    Problem("too_large", 413, "The body is too large",
            "The body is larger than this API takes; `detail` has the limit.",
            "Send less at a time."),
    Problem("unsupported_media_type", 415, "The body's type is not understood",
            "The API takes JSON only.",
            "Send `Content-Type: application/json`."),
    Problem("idempotency_key_reused", 422, "The Idempotency-Key has served",
            "The key came with another address or body before.",
            "Send the request with a key of its own."),
    Problem("throttled", 429, "Too many requests",
            "The client has sent more requests than one may.",
            "Wait for `Retry-After` seconds."),
    Problem("server_error", 500, "Something went wrong on our side",
            "The server has a fault. What the request had begun is rolled back.",
            "Send it again later, with the same Idempotency-Key if it had one. If it fails again, tell the staff."),
    Problem("database_away", 503, "The service can't reach its database",
            "The database is away for a moment. What the request had begun is rolled back.",
            "Send it again after `Retry-After` seconds, with the same Idempotency-Key if it had one."),
    Problem("tenant_failed", 503, "The organisation could not be set up",
            "Setting up the organisation failed. It is not served.",
            "Ask the platform's staff."),
    Problem("tenant_provisioning", 503, "The organisation is being set up",
            "The organisation was signed up a moment ago, and is not ready yet.",
            "Send the request again after `Retry-After` seconds."),
)}
# fmt: on
