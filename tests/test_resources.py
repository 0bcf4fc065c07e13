"""What is said of settings that can be used and yet are likely to be a mistake."""

from collections.abc import Callable

import pytest

from service.resources import separate_lists
from service.settings import Settings
from tests.support.processes import serve

WARNING = "with memory:// each of the 2 workers has a revocation list of its own"


@pytest.mark.parametrize(
    ("workers", "url", "warned"),
    [(1, "memory://", False), (2, "memory://", True), (2, "redis://localhost/0", False)],
)
def test_several_workers_without_a_shared_list_are_warned_of(
    settings: Callable[..., Settings], workers: int, url: str, *, warned: bool
) -> None:
    problem = separate_lists(settings(workers=workers, revocations_url=url))
    assert (problem is not None and problem.startswith(WARNING)) is warned


def test_the_warning_comes_once_from_the_parent() -> None:
    with serve(settings={"WORKERS": "2"}) as server:
        assert server.stop() == 0
    warnings = [line for line in server.diagnostics if WARNING in line["message"]]
    assert len(warnings) == 1
    assert warnings[0]["message"].startswith("REVOCATIONS_URL: ")
    assert "redis://" in warnings[0]["message"]
