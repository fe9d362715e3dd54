"""Settings with loggers of several kinds: the root, one that keeps its records to itself, and a file."""

import os
from pathlib import Path

SECRET_KEY = "nothing is signed"
INSTALLED_APPS = ["orchard"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
TIME_ZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "celery"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "braces": {"format": "DJANGO {levelname} [{task_name}] [{task_id}] {message}", "style": "{"},
        "percent": {"format": "FILE %(levelname)s [%(task_name)s] %(message)s"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "braces"},
        "own": {"class": "logging.StreamHandler", "formatter": "braces"},
        "file": {
            "class": "logging.FileHandler",
            "formatter": "percent",
            "filename": Path(os.environ["TEST_DIRECTORY"], "orders.log"),
        },
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "orchard.orders": {"handlers": ["own", "file"], "level": "INFO", "propagate": False},
        "django": {"handlers": ["own"], "level": "INFO", "propagate": False},
    },
}
