"""What differs from Debian's settings of the Mailman suite, which import all of this at their end.

From the environment (WEB_HOST, SITE_OWNER, MAIL_FROM, TZ) and from files in /run/secrets.
"""

import os
import pathlib


def _read_secret(name):
    if os.environ.get("LISTS_BUILD"):  # collecting static files needs none
        return "none"
    return pathlib.Path("/run/secrets", name).read_text(encoding="utf-8").strip()


WEB_HOST = os.environ.get("WEB_HOST", "localhost")
SITE_OWNER = os.environ.get("SITE_OWNER", "postmaster@localhost.localdomain")

SECRET_KEY = _read_secret("django_secret_key")
ADMINS = (("Site owner", SITE_OWNER),)
# "web" is what Mailman's core calls this server by.
ALLOWED_HOSTS = [WEB_HOST, "web", "127.0.0.1"]
TIME_ZONE = os.environ.get("TZ") or "UTC"

# lighttpd says how it was asked, and nobody else reaches this server but Mailman's core.
USE_X_FORWARDED_HOST = False
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "mailmanweb",
        "USER": "mailman",
        "PASSWORD": _read_secret("database_password"),
        "HOST": "database",
        "PORT": "5432",
        "CONN_MAX_AGE": 60,
        # A connection that the database's restart has cut is replaced, not an error.
        "CONN_HEALTH_CHECKS": True,
    }
}
if os.environ.get("LISTS_BUILD"):
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/tmp/build.sqlite"}}  # noqa: S108 # in the build alone
# Shared by all processes: what counts failed logins must see all of them.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"}}

MAILMAN_REST_API_URL = "http://core:8001"
MAILMAN_REST_API_USER = "restadmin"
MAILMAN_REST_API_PASS = _read_secret("rest_password")
MAILMAN_ARCHIVER_KEY = _read_secret("archiver_key")
# The key is what counts; the address of a container changes. lighttpd passes nothing on to the archiver's address.
MAILMAN_ARCHIVER_FROM = ("*",)
POSTORIUS_TEMPLATE_BASE_URL = "http://web:8000"

EMAIL_HOST = "relay"
EMAIL_PORT = 25
DEFAULT_FROM_EMAIL = os.environ.get("MAIL_FROM") or SITE_OWNER
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# Accounts of this site alone, and failed logins counted by address and by account.
INSTALLED_APPS = (
    "hyperkitty",
    "postorius",
    "django_mailman3",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "django_gravatar",
    "compressor",
    "haystack",
    "django_extensions",
    "django_q",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
)
ROOT_URLCONF = "lists_urls"
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key"}

# Pictures of members would be fetched from somebody else's server by every reader.
HYPERKITTY_ENABLE_GRAVATAR = False

STATIC_URL = "/static/"
STATIC_ROOT = "/usr/share/lists/static"
COMPRESS_OFFLINE = True

# Two workers are enough for a task of a second; more are memory.
Q_CLUSTER = {"timeout": 300, "retry": 360, "save_limit": 100, "orm": "default", "poll": 5, "workers": 1}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
