"""Kubernetes operator for Celery worker pools."""
