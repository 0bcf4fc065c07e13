"""The rule is that of Clerk's ``has({reverification: {level: "second_factor", afterMinutes: 10}})``."""

import pytest

from service.clerk.reverification import is_fresh, reverification_error


@pytest.mark.parametrize(
    ("factor_ages", "fresh"),
    [
        pytest.param([0, -1], True, id="no second factor, the first just now"),
        pytest.param([9, -1], True, id="no second factor, the first below the age"),
        pytest.param([10, -1], False, id="no second factor, the first at the age"),
        pytest.param([3, 9], True, id="both lately"),
        pytest.param([99, 9], True, id="the second lately"),
        pytest.param([3, 10], False, id="the first lately, the second not"),
        pytest.param([-1, 9], True, id="no first factor, the second lately"),
        pytest.param([-1, 10], False, id="no first factor, the second not lately"),
        pytest.param([-1, -1], False, id="never"),
        *(
            pytest.param(odd, False, id=repr(odd))
            for odd in (None, 5, "3,-1", [], [3], [3, -1, 0], [3, "1"], [3, 1.5], [True, 0], [-2, 0], [0, -2], {"0": 3})
        ),
    ],
)
def test_the_second_factor_counts_where_there_is_one(factor_ages: object, fresh: bool) -> None:
    assert is_fresh(factor_ages, 10) is fresh


def test_the_frontend_is_told_in_clerks_form() -> None:
    assert reverification_error(10) == {
        "clerk_error": {
            "type": "forbidden",
            "reason": "reverification-error",
            "metadata": {"reverification": {"level": "second_factor", "afterMinutes": 10}},
        }
    }
