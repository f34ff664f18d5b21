"""The API's view of a tenant's jobs: list, read, run again, cancel.

Whoever asks is a member here, an owner too. The platform's staff see tracebacks in the admin.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import states
from django.db.models import Q, QuerySet
from django_celery_results.models import TaskResult
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.settings import api_settings
from rest_framework.viewsets import GenericViewSet

from jobs import endings
from jobs.models import Job
from jobs.serializers import JobSerializer
from jobs.status import JobStatus, ended_jobs, find_status, of_job, of_result
from tenants.errors import Conflict, answers
from tenants.filters import ChoiceFilter
from tenants.services import current_tenant
from tenants.strict import StrictSerializer


class JobPages(api_settings.DEFAULT_PAGINATION_CLASS):  # type: ignore[name-defined]  # a setting names it
    """The newest job first."""

    ordering = "-seq"
    has_changes = False


class EndedJobPages(JobPages):
    """The job that ended last first."""

    ordering = "-id"


STATES = {
    "pending": Q(state=Job.State.WAITING, token=None, retries=0),
    "retry": Q(state=Job.State.WAITING, token=None, retries__gt=0),
    "started": Q(state=Job.State.WAITING, token__isnull=False),
    "dead": Q(state=Job.State.DEAD),
}
ENDED = {
    "success": states.SUCCESS,
    "failure": states.FAILURE,
    "revoked": states.REVOKED,
    "ignored": states.IGNORED,
}


class JobFilter(filters.FilterSet):
    """By task, and by state as the API names it."""

    state = ChoiceFilter(choices=[(state, state) for state in (*STATES, *ENDED)], method="in_state")

    class Meta:
        model = Job
        fields = ("task",)

    def in_state(self, jobs: QuerySet[Job], name: str, state: str) -> QuerySet[Job]:
        """The jobs in one of STATES."""
        return jobs.filter(STATES[state])


class EndedJobFilter(filters.FilterSet):
    """As JobFilter, for results."""

    state = ChoiceFilter(choices=[(state, state) for state in ENDED], method="in_state")
    task = filters.CharFilter(field_name="task_name")

    class Meta:
        model = TaskResult
        fields = ()

    def in_state(self, results: QuerySet[TaskResult], name: str, state: str) -> QuerySet[TaskResult]:
        """The results in one of ENDED."""
        return results.filter(status=ENDED[state])


class JobViewSet(GenericViewSet[Job]):
    """The tenant's jobs. The list has those that are under way or dead, and by their `state` those that have ended."""

    queryset = Job.objects.none()
    serializer_class = JobSerializer
    filterset_class = JobFilter
    pagination_class = JobPages
    lookup_value_converter = "id"

    def get_queryset(self) -> QuerySet[Job]:
        if getattr(self, "swagger_fake_view", False):
            return self.queryset
        return Job.objects.filter(tenant=current_tenant())

    def list(self, request: Request) -> Response:
        if request.query_params.get("state") in ENDED:
            self.filterset_class, self.pagination_class = EndedJobFilter, EndedJobPages
            return self._list(ended_jobs(), of_result)
        return self._list(self.get_queryset(), of_job)

    def _list(self, rows: QuerySet[Any], status_of: Callable[[Any], JobStatus]) -> Response:
        page = self.paginate_queryset(self.filter_queryset(rows))
        return self.get_paginated_response([JobSerializer(status_of(row)).data for row in page or []])

    def retrieve(self, request: Request, pk: UUID) -> Response:
        status = find_status(str(pk))
        if status is None:
            raise NotFound("No job has this id.")
        return Response(JobSerializer(status).data)

    @extend_schema(request=None, responses={202: JobSerializer})
    @answers("illegal_state")
    @action(methods=["post"], detail=True)
    def retry(self, request: Request, pk: UUID) -> Response:
        """Let a dead job run again."""
        return self._control(pk, endings.replay, refusal="Only a dead job can be run again.")

    @extend_schema(request=None, responses={202: JobSerializer})
    @answers("illegal_state")
    @action(methods=["post"], detail=True)
    def cancellation(self, request: Request, pk: UUID) -> Response:
        """Cancel a job that has not begun."""
        return self._control(pk, endings.cancel, refusal="This job has begun, or has ended: it can't be cancelled.")

    def _control(self, pk: UUID, change: Callable[[Job], bool], *, refusal: str) -> Response:
        StrictSerializer(data=self.request.data).is_valid(raise_exception=True)  # a body says nothing here
        job = self.get_queryset().filter(pk=pk).first()
        before = find_status(str(pk))
        if before is None:
            raise NotFound("No job has this id.")
        if job is None or not change(job):
            raise Conflict(refusal, code="illegal_state")
        location = reverse("job-detail", kwargs={"pk": pk}, request=self.request)
        answer = JobSerializer(find_status(str(pk)) or before).data
        return Response(answer, status=202, headers={"Location": location})
