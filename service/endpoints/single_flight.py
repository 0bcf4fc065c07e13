"""Work that goes on when its caller has gone, is done once for all who ask for the same, and is bounded."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

MOST = 20
"""Pieces of work at the same time in one process. Each holds a page or two of a list, a megabyte at the most."""

Outcome = TypeVar("Outcome")
Outcome_co = TypeVar("Outcome_co", covariant=True)


class Work(Protocol[Outcome_co]):
    """What can be done."""

    async def run(self) -> Outcome_co:
        """Do it."""
        ...

    def cut_short(self, within: float) -> None:
        """Have it end within so many seconds."""
        ...


class BusyError(Exception):
    """It could not begin in time, or may not begin any more."""


@dataclass(frozen=True, slots=True)
class _Piece(Generic[Outcome]):
    key: Hashable
    work: Work[Outcome]
    task: "asyncio.Task[Outcome]"


class SingleFlight(Generic[Outcome]):
    """All the work of one kind that is under way: at most one piece for each owner.

    Args:
        most: for all owners together.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._pieces: dict[str, _Piece[Outcome]] = {}
        self._stopping = False
        self._one_ended = asyncio.Event()

    async def do(self, owner: str, key: Hashable, begin: Callable[[], Work[Outcome]], *, patience: float) -> Outcome:
        """Do a piece of work, or wait for the same that is under way already. It goes on when the caller is cancelled.

        Args:
            owner: whose work it is.
            key: the same for the same work.
            begin: gives the work, where it is not under way.
            patience: seconds to wait while other work of this owner, or as much as there may be, is under way.

        Raises:
            BusyError: it still was after that, or all is about to end.
        """
        try:
            async with asyncio.timeout(patience):
                while not self._may_begin(owner, key):
                    await self._one_ended.wait()
        except TimeoutError:
            raise BusyError from None
        piece = self._pieces.get(owner)
        if piece is None:
            if self._stopping:
                raise BusyError
            piece = self._begin(owner, key, begin())
        return await asyncio.shield(piece.task)

    def _may_begin(self, owner: str, key: Hashable) -> bool:
        """Tell whether nothing is in the way; then it begins, or is joined, before anything else happens."""
        piece = self._pieces.get(owner)
        if piece is not None:
            return piece.key == key
        return len(self._pieces) < self._most

    def _begin(self, owner: str, key: Hashable, work: Work[Outcome]) -> _Piece[Outcome]:
        piece = _Piece(key, work, asyncio.create_task(work.run(), name="under way"))
        self._pieces[owner] = piece
        piece.task.add_done_callback(lambda _: self._ended(owner))
        return piece

    def _ended(self, owner: str) -> None:
        del self._pieces[owner]
        self._one_ended.set()
        self._one_ended = asyncio.Event()

    def stop(self, within: float) -> None:
        """Begin nothing more, and have all of it end within so many seconds."""
        self._stopping = True
        for piece in self._pieces.values():
            piece.work.cut_short(within)

    async def close(self) -> None:
        """Have all of it end now, and wait for that."""
        self.stop(0.0)
        if self._pieces:
            await asyncio.wait([piece.task for piece in self._pieces.values()])
