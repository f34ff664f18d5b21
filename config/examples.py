"""An example of each component that is sent or answered, for the schema. A test compares them with their components."""

from typing import Any

USER_ID = "01a2040f-3363-722a-9cc9-398661955af6"
ORDER_ID = "01a20410-52b1-7d0c-8f3e-1f6a0f4c9d21"
JOB_ID = "01a20410-52b2-7a44-b1c7-5e0d9c3a7f08"
INVOICE_ID = "01a20410-9c00-7e15-9a2b-84f1d6e3b570"
PAYMENT_ID = "01a20410-9c01-7c3e-b2d4-6e5f8a9b0c1d"
MESSAGE_ID = "01a20410-a7d4-7b39-8c51-20b9e7f4a6c3"
CREATED_AT = "2026-11-26T09:00:00Z"
LATER = "2026-11-26T09:00:02Z"
LINK = USER_ID.replace("-", "") + "0f" * 32

PERSON = {"email": "ian@initech.example", "full_name": "Ian Ink", "password": "correct horse battery"}
TENANT = {"slug": "initech", "name": "Initech", "status": "provisioning", "domain": "initech.localhost"}
USER = {
    "id": USER_ID,
    "email": "ian@initech.example",
    "full_name": "Ian Ink",
    "role": "owner",
    "is_active": True,
    "is_confirmed": False,
    "created_at": CREATED_AT,
    "updated_at": CREATED_AT,
}
MEMBER = {"email": "mia@initech.example", "full_name": "Mia Moss", "role": "member"}
LINE = {"description": "Tea", "quantity": 2, "unit_amount": 1250}
PAYMENT = {
    "id": PAYMENT_ID,
    "order": ORDER_ID,
    "invoice": INVOICE_ID,
    "status": "succeeded",
    "reason": "",
    "currency": "EUR",
    "amount": 2500,
    "job": JOB_ID,
    "created_at": CREATED_AT,
    "updated_at": LATER,
    "settled_at": LATER,
}

#: By the component's name.
EXAMPLES: dict[str, dict[str, Any]] = {
    "SignUpRequest": {"name": "Initech", "slug": "initech", "timezone": "Europe/Berlin", "owner": PERSON},
    "SignedUp": {**TENANT, "status_url": "http://localhost:8000/api/v1/tenants/initech/"},
    "Tenant": {**TENANT, "status": "active"},
    "Organisation": {
        "slug": "initech",
        "name": "Initech",
        "timezone": "Europe/Berlin",
        "domain": "initech.localhost",
        "is_confirmed": True,
        "created_at": CREATED_AT,
    },
    "PatchedOrganisationChangeRequest": {"timezone": "Pacific/Auckland"},
    "CredentialsRequest": {"email": "ian@initech.example", "password": "correct horse battery"},
    "Token": {"token": "0f" * 32, "expires_at": "2026-11-26T21:00:00Z"},
    "ConfirmationRequest": {"link": LINK},
    "PasswordResetRequest": {"email": "ian@initech.example"},
    "PasswordRequest": {"link": LINK, "password": "correct horse battery"},
    "SentLink": {"jobs": [JOB_ID]},
    "NewUserRequest": {**MEMBER, "password": "correct horse battery"},
    "CreatedUser": {**USER, **MEMBER, "jobs": [JOB_ID]},
    "User": USER,
    "PatchedMeChangeRequest": {"full_name": "Ian Inkwell"},
    "PatchedUserChangeRequest": {"role": "admin"},
    "OrderRequest": {"currency": "EUR", "payment_token": "tok_ok", "lines": [LINE]},
    "Order": {
        "id": ORDER_ID,
        "status": "pending",
        "currency": "EUR",
        "total_amount": 2500,
        "lines": [LINE],
        "invoice": None,
        "jobs": [JOB_ID],
        "placed_by": USER_ID,
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT,
    },
    "Invoice": {
        "id": INVOICE_ID,
        "number": "INV-000001",
        "order": ORDER_ID,
        "status": "paid",
        "currency": "EUR",
        "total_amount": 2500,
        "payments": [PAYMENT],
        "created_at": CREATED_AT,
        "updated_at": LATER,
        "paid_at": LATER,
    },
    "NewPaymentRequest": {"payment_token": "tok_ok"},
    "Payment": PAYMENT,
    "Message": {
        "id": MESSAGE_ID,
        "to": "ian@initech.example",
        "subject": "Receipt for INV-000001",
        "status": "sent",
        "attempts": 1,
        "error": "",
        "job": JOB_ID,
        "created_at": LATER,
        "updated_at": LATER,
        "sent_at": LATER,
    },
    "Job": {
        "id": JOB_ID,
        "task": "notifications.tasks.deliver_message",
        "state": "success",
        "attempts": 1,
        "result": None,
        "error": None,
        "traceback": None,
        "created_at": CREATED_AT,
        "due_at": None,
        "finished_at": LATER,
    },
}
