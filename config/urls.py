"""A tenant's host."""

from django.urls import include, path, re_path

from accounts.pages import LinkPage
from config import api, problems

urlpatterns = [
    path("api/v1/", include(api.tenant_urls)),
    path("link/", LinkPage.as_view(), name="link"),
    re_path("", problems.nowhere, name="nowhere"),
]

handler400 = "config.problems.bad_request"
handler403 = "config.problems.permission_denied"
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
