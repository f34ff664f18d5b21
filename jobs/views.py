from dataclasses import replace
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jobs.serializers import JobSerializer
from jobs.status import find_status


class JobView(APIView):
    """One of the tenant's own jobs."""

    @extend_schema(operation_id="jobs_retrieve", responses=JobSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        status = find_status(str(id))
        if status is None:
            raise NotFound("No job has this id.")
        if not request.user.is_staff:
            status = replace(status, traceback=None)
        return Response(JobSerializer(status).data)
