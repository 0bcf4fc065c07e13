"""Clerk's reverification: has the user proven lately who they are? And how a frontend is told that they must.

The rule and the form are those of Clerk's ``has({reverification})`` and ``reverificationError()`` for the level
``second_factor`` (clerk/javascript, packages/shared, authorization.ts and authorization-errors.ts). OWASP ASVS 5.0,
7.5.2, asks for it before a user ends sessions.
"""

from typing import Any

LEVEL = "second_factor"
_NEVER = -1


def is_fresh(factor_ages: tuple[int, int] | None, max_age: int) -> bool:
    """Say whether the second factor, or the first where there is no second, was verified lately.

    Args:
        factor_ages: minutes since the first and the second factor were verified, -1 for never; None where unknown.
        max_age: minutes; the age must be below it.
    """
    first, second = factor_ages or (_NEVER, _NEVER)
    age = first if second == _NEVER else second
    return age != _NEVER and age < max_age


def reverification_error(max_age: int) -> dict[str, Any]:
    """Give what ``useReverification()`` looks for in an answer; other members beside it do not matter to it.

    Args:
        max_age: minutes.
    """
    return {
        "clerk_error": {
            "type": "forbidden",
            "reason": "reverification-error",
            "metadata": {"reverification": {"level": LEVEL, "afterMinutes": max_age}},
        }
    }
