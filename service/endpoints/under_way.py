"""Work that goes on when its caller has gone, is done once for all who ask for the same, and is bounded."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

MOST = 5
"""Pieces of work at the same time in one process."""

Outcome = TypeVar("Outcome")
Outcome_co = TypeVar("Outcome_co", covariant=True)


class Work(Protocol[Outcome_co]):
    """What can be done."""

    async def run(self) -> Outcome_co:
        """Do it."""
        ...

    def cut_short(self) -> None:
        """Have it end as soon as it can."""
        ...


class BusyError(Exception):
    """Too much is under way."""


@dataclass(frozen=True, slots=True)
class _Piece(Generic[Outcome]):
    key: Hashable
    work: Work[Outcome]
    task: "asyncio.Task[Outcome]"


class UnderWay(Generic[Outcome]):
    """All the work of one kind that is under way: at most one piece for each owner.

    Args:
        most: for all owners together.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._pieces: dict[str, _Piece[Outcome]] = {}

    async def do(self, owner: str, key: Hashable, begin: Callable[[], Work[Outcome]]) -> Outcome:
        """Do a piece of work, or wait for the same that is under way already. It goes on when the caller is cancelled.

        Args:
            owner: whose work it is.
            key: the same for the same work.
            begin: gives the work, where it is not under way.

        Raises:
            BusyError: other work of this owner, or as much as there may be, is under way.
        """
        piece = self._pieces.get(owner)
        if piece is None and len(self._pieces) < self._most:
            work = begin()
            piece = _Piece(key, work, asyncio.create_task(work.run(), name="under way"))
            self._pieces[owner] = piece
            piece.task.add_done_callback(lambda _: self._pieces.pop(owner))
        if piece is None or piece.key != key:
            raise BusyError
        return await asyncio.shield(piece.task)

    async def close(self) -> None:
        """Have all of it end soon, and wait for that."""
        pieces = [*self._pieces.values()]
        for piece in pieces:
            piece.work.cut_short()
        if pieces:
            await asyncio.wait([piece.task for piece in pieces])
