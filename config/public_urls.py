"""The public host: sign-up, and the admin for staff."""

from django.contrib import admin
from django.urls import include, path, re_path
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken

from config import api, front_page, problems

admin.site.site_header = admin.site.site_title = "Tenantry"
# Tokens are the tenants': there is no table of them in `public`.
admin.site.unregister(AuthToken)
# Whoever sees or adds a second factor has it. `manage.py second_factor` gives a new one.
admin.site.unregister([StaticDevice, TOTPDevice])

urlpatterns = [
    path("", front_page.show_docs, name="front-page"),
    path("api/v1/", include(api.public_urls)),
    path("admin/", admin.site.urls),
    re_path("", problems.nowhere, name="nowhere"),
]

handler400 = "config.problems.bad_request"
handler403 = "config.problems.permission_denied"
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
