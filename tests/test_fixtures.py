"""The fixtures that write-a-job.md offers for tests of your own."""

import pytest

from tests.conftest import pytest_runtest_setup


@pytest.mark.parametrize(
    "marker",
    [pytest.mark.django_db(transaction=True), pytest.mark.django_db(True)],
    ids=["by name", "by place"],
)
def test_what_would_delete_the_tenants_is_refused(request: pytest.FixtureRequest, marker: pytest.MarkDecorator) -> None:
    request.node.add_marker(marker)
    with pytest.raises(pytest.fail.Exception, match="committed_db"):
        pytest_runtest_setup(request.node)


def test_a_marker_that_deletes_nothing_is_not(request: pytest.FixtureRequest) -> None:
    request.node.add_marker(pytest.mark.django_db)
    pytest_runtest_setup(request.node)
