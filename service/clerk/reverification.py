"""Clerk's reverification: whether the user has proven lately who they are, and how a frontend learns that they must.

The rule and the form are those of Clerk's ``has({reverification})`` and ``reverificationError()`` for the level
``second_factor`` (clerk/javascript, packages/shared, authorization.ts and authorization-errors.ts). OWASP ASVS 5.0,
7.5.2, asks for it before a user ends sessions.
"""

from typing import Any

_NEVER = -1


def is_fresh(factor_ages: object, max_age: int) -> bool:
    """Return whether the second factor, or the first if there is no second, was verified less than ``max_age`` ago.

    Args:
        factor_ages: a token's ``fva``: minutes since each factor was verified, -1 for never. Where it is odd: no.
        max_age: in minutes.
    """
    if not isinstance(factor_ages, list) or len(factor_ages) != 2:  # noqa: PLR2004 - first and second factor
        return False
    # Not isinstance: bool is an int.
    if any(type(age) is not int or age < _NEVER for age in factor_ages):
        return False
    first, second = factor_ages
    age = first if second == _NEVER else second
    return bool(_NEVER < age < max_age)


def reverification_error(max_age: int) -> dict[str, Any]:
    """Return what ``useReverification()`` looks for in a response, with the age in minutes."""
    metadata = {"reverification": {"level": "second_factor", "afterMinutes": max_age}}
    return {"clerk_error": {"type": "forbidden", "reason": "reverification-error", "metadata": metadata}}
