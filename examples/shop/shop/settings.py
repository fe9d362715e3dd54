"""Settings of the shop. It keeps no data of its own: no database, no sessions, no accounts.

Everything that differs from one installation to the next comes from the environment, with defaults that
work on a developer's machine.
"""

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "nothing is signed with it: the shop has no sessions")
DEBUG = False
ALLOWED_HOSTS = ["*"]  # it is reached through a port-forward, a Service and its pod's own address
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = ["storefront"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES: dict[str, dict[str, str]] = {}
USE_TZ = True
TIME_ZONE = "UTC"  # Django would move the whole process, and so its log, to Chicago
# Django would add handlers of its own; the web server and Celery each bring theirs.
LOGGING_CONFIG = None

EMAIL_HOST = os.environ.get("EMAIL_HOST", "localhost")
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "2525"))
EMAIL_TIMEOUT = 10  # seconds; a mail server that hangs must not hang a worker
DEFAULT_FROM_EMAIL = "shop@shop.example"

# A click on "notify" within this many seconds of the last one that counted sends nothing more.
NOTIFY_WINDOW_SECONDS = int(os.environ.get("NOTIFY_WINDOW_SECONDS", "30"))

# Where the person at the browser finds the mail and Flower: their port-forwards, as `make demo` names them.
LINKS = {
    "mail": os.environ.get("MAIL_URL", "http://localhost:8025/messages"),
    "flower": os.environ.get("FLOWER_URL", "http://localhost:5555"),
}

# The web process publishes with these. In a worker pod the pool's own broker and result backend are laid over them.
CELERY_BROKER_URL = os.environ.get("BROKER_URL", "redis://localhost:6379/0")
CELERY_RESULT_BACKEND = os.environ.get("RESULT_BACKEND_URL", "redis://localhost:6379/1")
CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_TASK_ROUTES = {
    "storefront.tasks.ask_supplier": {"queue": "suppliers"},
    "storefront.tasks.label": {"queue": "labels"},
}
CELERY_TASK_TRACK_STARTED = True
CELERY_RESULT_EXTENDED = True  # the task's name and worker are kept with its result: the status page shows them
CELERY_TIMEZONE = "UTC"
