"""Every setting, from the environment (see .env.example)."""

import os
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

from kombu.entity import Exchange, Queue

import environment as env
from config import logs

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = env.flag("DEBUG", default=False)
# Keys are read as they are: `env` takes a value that begins with a dollar sign for the name of another variable.
SECRET_KEY = os.environ.get("SECRET_KEY") or ("insecure-development-key" if DEBUG else "")
if not SECRET_KEY:
    raise env.Misconfigured("Set SECRET_KEY to a long random string (or DEBUG=1 on a developer's machine).")
# Earlier keys: what they signed is valid until they go from here.
SECRET_KEY_FALLBACKS = [key for key in os.environ.get("SECRET_KEY_FALLBACKS", "").split(",") if key]

# Hosts. The public host signs up tenants and has the admin; a tenant's host is <slug>.BASE_DOMAIN.
BASE_DOMAIN = env.host("BASE_DOMAIN", default="localhost")
ALLOWED_HOSTS = [BASE_DOMAIN, f".{BASE_DOMAIN}", *(["127.0.0.1"] if DEBUG else [])]
PUBLIC_HOSTS = {BASE_DOMAIN, *(["127.0.0.1"] if DEBUG else [])}
ROOT_URLCONF = "config.urls"
PUBLIC_SCHEMA_URLCONF = "config.public_urls"
WSGI_APPLICATION = "config.wsgi.application"
BEHIND_TLS_PROXY = env.flag("BEHIND_TLS_PROXY", default=False)
# How many proxies in front append to X-Forwarded-For. Without one that header is whatever the client says.
NUM_PROXIES = env.integer("NUM_PROXIES", default=1 if BEHIND_TLS_PROXY else 0, at_least=0, at_most=100)
# As clients see it; the schema says so
SCHEME, PORT = ("https", "") if BEHIND_TLS_PROXY else ("http", f":{env.integer('PORT', default=8000, at_most=65_535)}")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS_PROXY else None
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS_PROXY
# For how long, in seconds, a browser that has been here takes TLS alone, for this host and all below it
HSTS_SECONDS = env.integer("HSTS_SECONDS", default=31_536_000, at_least=0)
SECURE_HSTS_SECONDS = HSTS_SECONDS if BEHIND_TLS_PROXY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
if BEHIND_TLS_PROXY:
    # By this prefix a browser takes the cookie from this host alone: a tenant's host can't plant one.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
# Sessions are the admin's. One ends so many seconds after the log-in, or with the browser.
SESSION_COOKIE_AGE = 60 * env.integer("STAFF_SESSION_MINUTES", default=60, at_most=525_600)
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "config.problems.csrf_failure"

# Pages of these origins may call the API from a browser. Tokens travel in a header, so there are no cookies to allow.
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS")
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-modified-since",
    "if-none-match",
    "tenant",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    "allow",
    "deprecation",
    "etag",
    "idempotent-replayed",
    "last-modified",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "sunset",
    "www-authenticate",
    "x-request-id",
]

# The platform's staff log in to the admin with a second factor: an authenticator app, or a recovery code.
STAFF_SECOND_FACTOR = env.flag("STAFF_SECOND_FACTOR", default=not DEBUG)
if not (STAFF_SECOND_FACTOR or DEBUG):
    raise env.Misconfigured("Leave out STAFF_SECOND_FACTOR=0: without DEBUG=1, staff need a second factor.")
OTP_TOTP_ISSUER = f"Tenantry on {BASE_DOMAIN}"
# accounts/logins.py limits how often a code is tried, together with the password.
OTP_TOTP_THROTTLE_FACTOR = 0

# Apps. An app in both lists has its tables in `public` and in every tenant's schema.
SHARED_APPS = [
    "config",
    # Before django-tenants, which has old copies of its templates, with style inside.
    "accounts.apps.StaffAdminConfig",
    "django_tenants",
    "tenants",
    "limits",
    "jobs",
    "idempotency",
    "accounts",
    "django_celery_beat",
    "django_celery_results",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "corsheaders",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
TENANT_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_results",
    "idempotency",
    "accounts",
    "knox",
    "notifications",
    "billing",
]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.LimitedBackend"]
# Tries of one account that need no waiting; the longest wait, in seconds; for how many days an address from which an
# account logged in need not wait for what others try. accounts/logins.py has the rules.
LOGIN_TRIES = env.integer("LOGIN_TRIES", default=1000 if DEBUG else 5)
LOGIN_MAX_WAIT = env.integer("LOGIN_MAX_WAIT", default=60, at_least=0, at_most=env.WEEK)
LOGIN_KNOWN_DAYS = env.integer("LOGIN_KNOWN_DAYS", default=30, at_least=0, at_most=env.CENTURY)
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("email", "full_name")},
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "accounts.passwords.NotBlankValidator"},
]
SILENCED_SYSTEM_CHECKS = [
    # The e-mail is unique, in any case: by a functional constraint, which that check does not see.
    "auth.W004",
    # It asks for SECURE_HSTS_PRELOAD. A browser's list is hard to leave again, so an operator asks for it.
    "security.W021",
]

MIDDLEWARE = [
    # Whatever answers below, it adds to it.
    "config.headers.SecurityHeadersMiddleware",
    # Before the redirect to TLS: a load balancer asks without.
    "config.health.HealthMiddleware",
    "config.logs.RequestLogMiddleware",
    "django.middleware.security.SecurityMiddleware",
    # Before the tenant is looked for: a browser's preflight names none.
    "corsheaders.middleware.CorsMiddleware",
    "config.refusals.RefusalMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # Before anything that renders or asks the database
    "config.limits.LimitMiddleware",
    "config.problem_pages.ProblemPagesMiddleware",
    "config.headers.HeadersMiddleware",
    "tenants.middleware.TenantMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.queries.QueryMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "config/templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# PostgreSQL
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        # Seconds; web keeps a connection over so many. DATABASE_URL may have Django's keys too, as ?conn_max_age=60.
        "CONN_MAX_AGE": env.integer("DATABASE_MAX_AGE", default=600, at_least=0),
        "CONN_HEALTH_CHECKS": True,
        **env.database("DATABASE_URL", default="postgresql://localhost/tenantry"),
        "ENGINE": "tenants.postgresql",
    },
}
JOB_HARD_TIME_LIMIT = env.number("JOB_HARD_TIME_LIMIT", default=30, at_least=1)
JOB_LEASE_MARGIN = env.number("JOB_LEASE_MARGIN", default=10, at_least=1)
# A prefork worker holds its jobs by leases of this length, and renews them. So it is for how long a killed host's jobs
# wait, and for how long the database may be away before others may take them.
JOB_LEASE = env.number("JOB_LEASE", default=15, at_least=1)
JOB_RENEWAL_INTERVAL = JOB_LEASE / 3
DATABASES["default"]["OPTIONS"] = {
    "connect_timeout": 5,
    # A host that vanished must not keep its locks: TCP finds out after half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    **DATABASES["default"].get("OPTIONS", {}),
}
# If DATABASE_URL leads to a pooler, this leads past it: migrations, the relay, and whatever else holds a session for
# longer than a transaction go there.
if env.text("DATABASE_DIRECT_URL", default=""):
    direct = env.database("DATABASE_DIRECT_URL", default="")
    direct["OPTIONS"] = {**DATABASES["default"]["OPTIONS"], **direct.get("OPTIONS", {})}
    DATABASES["default"] |= {"DIRECT": direct, "DISABLE_SERVER_SIDE_CURSORS": True}
# PostgreSQL ends a transaction that idles for longer than any job may run, before the job's lease ends and another
# worker waits for its locks. The release step writes it on the role, with more defaults: see tenants/role.py.
IDLE_IN_TRANSACTION_MILLISECONDS = int(1000 * (JOB_HARD_TIME_LIMIT + JOB_LEASE_MARGIN / 2))
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_MODEL = "tenants.Tenant"
TENANT_DOMAIN_MODEL = "tenants.Domain"
# django-tenants would ask the database while Django starts; tenants/checks.py looks at the names.
SKIP_PG_EXTRA_VALIDATION = True
# Seconds that a statement of a request may take, and may wait for a lock; 0 for as long as it takes
REQUEST_STATEMENT_SECONDS = env.number("REQUEST_STATEMENT_SECONDS", default=15, or_zero=True)
REQUEST_LOCK_SECONDS = env.number("REQUEST_LOCK_SECONDS", default=5, or_zero=True)
# Schemas that wait, migrated, for the next sign-ups
SPARE_SCHEMAS = env.integer("SPARE_SCHEMAS", default=3, at_least=0, at_most=10_000)
# Schemas that are made at the same time, in the whole installation: each keeps a worker's child busy
SCHEMAS_AT_A_TIME = env.integer("SCHEMAS_AT_A_TIME", default=1, at_most=100)
# For how many days nobody gets the domains of a tenant that was deleted
HOST_QUARANTINE_DAYS = env.integer("HOST_QUARANTINE_DAYS", default=90, at_least=0, at_most=env.CENTURY)

# Until an owner has confirmed their address: how many mails an organisation's unconfirmed addresses get, and after how
# many days it is deleted
UNCONFIRMED_MAILS = env.integer("UNCONFIRMED_MAILS", default=20, at_least=0)
UNCONFIRMED_DAYS = env.number("UNCONFIRMED_DAYS", default=7, at_most=env.CENTURY)
# Functions that are called in its schema. If one says yes, it is suspended instead, for staff to look at.
KEEP_UNCONFIRMED_IF: list[str] = [
    "billing.services.may_have_charged",
]

# Redis or Valkey, for the caches and the broker, unless these have servers of their own. The broker may be RabbitMQ.
REDIS_URL = env.text("REDIS_URL", default="redis://localhost:6379/0")
CACHE_URL = env.text("CACHE_URL", default="") or REDIS_URL
BROKER_URL = env.text("BROKER_URL", default="") or REDIS_URL
REDIS_KEY_PREFIX = env.text("REDIS_KEY_PREFIX", default="")
REDIS_SELF_SIGNED = env.flag("REDIS_TLS_SELF_SIGNED", default=False)
# A request does not wait for a Redis that is away.
REDIS_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": 0.5,
    "socket_timeout": 0.5,
    **({"ssl_cert_reqs": "none"} if REDIS_SELF_SIGNED else {}),
}
REDIS_CACHE = {
    "BACKEND": "tenants.cache.JSONCache",
    # In a list, or Django would take a comma in the password for the start of another URL.
    "LOCATION": [CACHE_URL],
    "OPTIONS": REDIS_OPTIONS,
}
CACHES = {
    "default": {
        **REDIS_CACHE,
        "KEY_PREFIX": f"{REDIS_KEY_PREFIX}cache",
        "KEY_FUNCTION": "tenants.cache.key_of_tenant",
    },
    # For what all tenants share on purpose
    "shared": {**REDIS_CACHE, "KEY_PREFIX": f"{REDIS_KEY_PREFIX}shared"},
}

# Celery
CELERY_BROKER_URL = BROKER_URL
CELERY_BROKER_USE_SSL: dict[str, Any] = {}
if BROKER_URL.startswith("rediss://"):
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": ssl.CERT_NONE if REDIS_SELF_SIGNED else ssl.CERT_REQUIRED}
elif BROKER_URL.startswith("amqps://"):
    # None is the host of the URL. Without it py-amqp takes any host's certificate.
    CELERY_BROKER_USE_SSL = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Seconds; RabbitMQ's. Redis has none.
CELERY_BROKER_HEARTBEAT = 10
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": REDIS_KEY_PREFIX,
    # A publisher fails fast; a worker's consumer reconnects by BROKER_CONNECTION_RETRY.
    "max_retries": 0,
    "interval_start": 0,
    "socket_connect_timeout": 1,
    "socket_timeout": 5,
    "socket_keepalive": True,
    # RabbitMQ's names for the same
    "connect_timeout": 1,
    "read_timeout": 5,
    "write_timeout": 5,
}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = CELERY_RESULT_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "celery"
# Durable jobs have a queue of their own, which the relay keeps short; a plain `celery worker` consumes both.
# RabbitMQ makes quorum queues of them; an ETA passes through queues of Celery's there, which need topic exchanges.
CELERY_TASK_QUEUES = [
    Queue(name, Exchange(name, "topic"), name, queue_arguments={"x-queue-type": "quorum"})
    for name in ("celery", "jobs")
]
CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = "quorum"
CELERY_TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE = "topic"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CONSUMER = "jobs.worker.consumer:TenantConsumer"
# At SIGTERM (which the Procfile remaps, for plain SIGTERM knows no such limit) running tasks get this long; then
# durable jobs are handed back. Heroku kills after 30 s.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = env.number("WORKER_SHUTDOWN_SECONDS", default=20, at_least=1)
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# With it, whoever reaches the broker ends workers and reads their settings, passwords included.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = env.flag("WORKER_REMOTE_CONTROL", default=False)
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_SOFT_TIME_LIMIT = env.number("JOB_SOFT_TIME_LIMIT", default=25, at_least=1)
CELERY_TASK_TIME_LIMIT = JOB_HARD_TIME_LIMIT
# Celery's names for the backends are entry points, which override aliases; so the settings name the classes.
RESULT_BACKENDS = {
    "django-db": "jobs.celery_hooks.backends:TenantDatabaseBackend",
    "django-cache": "jobs.celery_hooks.backends:TenantCacheBackend",
}
CELERY_RESULT_BACKEND = RESULT_BACKENDS[
    env.choice("CELERY_RESULT_BACKEND", default="django-db", choices=RESULT_BACKENDS)
]
CELERY_CACHE_BACKEND = "default"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = timedelta(days=env.integer("RESULT_EXPIRES_DAYS", default=7, at_most=env.CENTURY))
CELERY_BEAT_SCHEDULER = "jobs.beat:TenantScheduler"
# It deletes the old results of all tenants, in batches that are transactions of their own.
CELERY_TASK_ANNOTATIONS = {"celery.backend_cleanup": {"atomic": False}}
CELERY_TIMEZONE = "UTC"
# A worker keeps its database connection over so many tasks (times two); with 0 every task pays for a new one.
CELERY_DB_REUSE_MAX = env.integer("WORKER_TASKS_PER_CONNECTION", default=1000, at_least=0)

# Durable jobs; times in seconds
JOB_FIRST_RESEND = env.number("JOB_FIRST_RESEND", default=10, at_least=0.1)
JOB_MAX_RESEND = env.number("JOB_MAX_RESEND", default=600, at_least=0.1)
JOB_MAX_KILLS = 3
JOB_MAX_LOST = 10
JOB_MAX_TRANSIENT = env.integer("JOB_MAX_TRANSIENT", default=20, at_least=0)
JOB_MAX_SNOOZES = env.integer("JOB_MAX_SNOOZES", default=1000, at_least=0)
JOB_UNKNOWN_TASK_HOURS = env.number("JOB_UNKNOWN_TASK_HOURS", default=24, at_most=24 * env.CENTURY)
JOB_DEAD_DAYS = env.integer("JOB_DEAD_DAYS", default=30, at_most=env.CENTURY)
# A relay that sleeps for longer is taken for one that hangs, or for none.
RELAY_IDLE_POLL = env.number("RELAY_IDLE_POLL", default=0.1, at_most=20)
RELAY_STALL_SECONDS = env.number("RELAY_STALL_SECONDS", default=300, at_least=30)
RELAY_BUSY_POLL = env.number("RELAY_BUSY_POLL", default=0.01, at_most=20)
# How often relay, workers and beat leave a sign of life in the database: three times while `/readyz` waits for one
HEARTBEAT_SECONDS = env.number("HEARTBEAT_SECONDS", default=5, at_least=0.1, at_most=10)
# `/readyz` warns of a job that was due for so long, and of more jobs than so many that died within an hour.
JOBS_OVERDUE_SECONDS = env.number("JOBS_OVERDUE_SECONDS", default=300, at_least=1)
JOBS_DEAD_PER_HOUR = env.integer("JOBS_DEAD_PER_HOUR", default=10, at_least=0)

# The API
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["config.permissions.ByTable"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.negotiation.Negotiation",
    "DEFAULT_FILTER_BACKENDS": [
        "config.permissions.OwnRows",
        "django_filters.rest_framework.DjangoFilterBackend",
    ],
    "DEFAULT_PAGINATION_CLASS": "config.pagination.Pages",
    "DEFAULT_SCHEMA_CLASS": "config.openapi.Schema",
    "DEFAULT_THROTTLE_CLASSES": ["config.throttles.Throttle"],
    # What each counts is in .env.example, and in docs/how-to/deploy.md. limits/rates.py counts.
    "DEFAULT_THROTTLE_RATES": {
        "address": env.text("THROTTLE_ADDRESS", default="60000/min" if DEBUG else "600/min"),
        "user": env.text("THROTTLE_USER", default="60000/min" if DEBUG else "600/min"),
        "tenant": env.text("THROTTLE_TENANT", default="600000/min" if DEBUG else "6000/min"),
        "sign_up": env.text("THROTTLE_SIGN_UP", default="6000/min" if DEBUG else "20/hour"),
        "login": env.text("THROTTLE_LOGIN", default="6000/min" if DEBUG else "30/min"),
        "user_password": env.text("THROTTLE_USER_PASSWORD", default="2000/min" if DEBUG else "20/min"),
        "password": env.text("THROTTLE_PASSWORD", default="6000/min" if DEBUG else "60/min"),
        "idempotency_key": env.text("THROTTLE_IDEMPOTENCY_KEY", default="5000000/day" if DEBUG else "50000/day"),
        "mail": env.text("THROTTLE_MAIL", default="1000000/day" if DEBUG else "10000/day"),
        "unconfirmed_recipient": env.text(
            "THROTTLE_UNCONFIRMED_RECIPIENT", default="1000000/day" if DEBUG else "10/day"
        ),
    },
    "NUM_PROXIES": NUM_PROXIES,
    "EXCEPTION_HANDLER": "config.problems.exception_handler",
    "PAGE_SIZE": 50,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_TTL": timedelta(hours=env.integer("TOKEN_HOURS", default=12, at_most=24 * env.CENTURY)),
}
# For how long the response to an Idempotency-Key is kept
IDEMPOTENCY_KEY_HOURS = env.integer("IDEMPOTENCY_KEY_HOURS", default=24, at_most=24 * env.CENTURY)
SPECTACULAR_SETTINGS = {
    "TITLE": "Tenantry",
    "DESCRIPTION": "Sign-up is on the public host. Everything else belongs to an organisation, which a request names "
    "by the header `Tenant: <slug>` on the public host, or by the organisation's own host.",
    "SERVERS": [
        {"url": "/", "description": "This host. If it is the public one, the header names the organisation."},
        {
            "url": f"{SCHEME}://{{slug}}.{BASE_DOMAIN}{PORT}",
            "description": "An organisation's own host, which needs no header. A page of another host, as that of the "
            "documentation, can't ask it",
            "variables": {"slug": {"default": "acme", "description": "The organisation's slug"}},
        },
    ],
    "VERSION": "1",
    "SERVE_URLCONF": "config.api",
    # An answer has what a request has not, and the other way round.
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["config.permissions.ByTable"],
    # The public host serves it too, and has no tokens to look up.
    "SERVE_AUTHENTICATION": [],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.openapi.add_components",
        "config.openapi.describe_tenants",
    ],
    "ENUM_NAME_OVERRIDES": {"TenantStatus": "tenants.models.Tenant.Status"},
    # Of tenants/ids.py
    "PATH_CONVERTER_OVERRIDES": {"id": {"type": "string", "format": "uuid"}},
    # No validator of somebody else's
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# The outside world
vars().update(env.email("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.sender("DEFAULT_FROM_EMAIL", default=f"Tenantry <no-reply@{BASE_DOMAIN}>")
# For how long mails are kept after they were written
MESSAGE_DAYS = env.integer("MESSAGE_DAYS", default=365, at_most=env.CENTURY)
PAYMENT_GATEWAY = env.text("PAYMENT_GATEWAY", default="billing.gateways.HttpCardGateway")
CARD_GATEWAY_URL = env.url(
    "CARD_GATEWAY_URL",
    default="http://localhost:8090",
    schemes=("http", "https"),
    example="https://gateway.example.com",
)
CARD_GATEWAY_TIMEOUT = env.number("CARD_GATEWAY_TIMEOUT", default=5, at_least=0.1)
INVOICE_REMINDER_DAYS = env.integer("INVOICE_REMINDER_DAYS", default=14, at_most=env.CENTURY)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOGGING = logs.config(
    json=env.flag("LOG_JSON", default=None), level=env.choice("LOG_LEVEL", default="INFO", choices=LOG_LEVELS)
)
