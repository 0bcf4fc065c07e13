import pytest

from tests.benchmarks import tokens


@pytest.mark.parametrize(("size", "at_least", "at_most"), [(0, 700, 800), (2000, 1990, 2010), (7000, 6990, 7010)])
def test_everybody_has_a_token_of_the_size(size: int, at_least: int, at_most: int) -> None:
    made = tokens.valid(size=size)
    assert len(set(made)) == tokens.USERS
    assert {at_least <= len(token) <= at_most for token in made} == {True}
