"""Addresses of the shop."""

from django.urls import path
from storefront import views

urlpatterns = [
    path("", views.front_page),
    path("catalogue/<int:page>", views.catalogue_page),
    path("healthz", views.health),
    path("api/tasks/<str:name>", views.start_task),
    path("api/results/<uuid:task_id>", views.show_result),
]
