"""A tenant's host."""

from django.urls import include, path, re_path

from accounts.pages import LinkPage
from config import api, front_page, problems

urlpatterns = [
    path("", front_page.show_docs, name="front-page"),
    path("api/v1/", include(api.tenant_urls)),
    path("link/", LinkPage.as_view(), name="link"),
    re_path("", problems.nowhere, name="nowhere"),
]

handler400 = "config.problems.bad_request"
handler403 = "config.problems.permission_denied"
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
