"""Clerk's reverification: whether the user has proven lately who they are, and how a frontend learns that they must.

The rule and the form are those of Clerk's ``has({reverification})`` and ``reverificationError()`` for the level
``second_factor`` (clerk/javascript, packages/shared, authorization.ts and authorization-errors.ts). OWASP ASVS 5.0,
7.5.2, asks for it before a user ends sessions.
"""

from typing import Any

_NEVER = -1


def is_fresh(factor_ages: tuple[int, int] | None, max_age: int) -> bool:
    """Return whether the second factor, or the first if there is no second, was verified less than ``max_age`` ago.

    All in minutes; -1 means never, None unknown.
    """
    first, second = factor_ages or (_NEVER, _NEVER)
    age = first if second == _NEVER else second
    return age != _NEVER and age < max_age


def reverification_error(max_age: int) -> dict[str, Any]:
    """Return what ``useReverification()`` looks for in a response, with the age in minutes."""
    metadata = {"reverification": {"level": "second_factor", "afterMinutes": max_age}}
    return {"clerk_error": {"type": "forbidden", "reason": "reverification-error", "metadata": metadata}}
