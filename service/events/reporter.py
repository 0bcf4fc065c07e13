"""What an operator must know about the event log, on stderr."""

import logging

logger = logging.getLogger("service.events")


class Reporter:
    """Tells of trouble when it begins and when it is over: of a loss at once, of everything else at the next look.

    Args:
        name: of the event log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._log_trouble: str | None = None
        self._spool_trouble: str | None = None
        self._is_losing = self._lost_lately = False

    def losing(self, log_trouble: str | None, spool_trouble: str) -> None:
        """Tell, unless it is known, that lines are being lost."""
        if not self._is_losing:
            self._is_losing = True
            logger.error(
                "events are being lost: neither the event log (%s: %s) nor the spool (%s) takes them",
                self._name,
                log_trouble or "it has to wait for the spool",
                spool_trouble,
            )

    def lost_one(self) -> None:
        """Note that a line was lost."""
        self._lost_lately = True

    def look(self, log_trouble: str | None, spool_trouble: str | None, lost: int) -> None:
        """Tell what has changed since the last look.

        Args:
            log_trouble: why the event log takes no lines; None while it does.
            spool_trouble: the same of the spool.
            lost: lines that were lost so far.
        """
        if log_trouble and not self._log_trouble:
            logger.warning("the event log (%s) takes no lines: %s; events wait in the spool", self._name, log_trouble)
        elif self._log_trouble and not log_trouble:
            logger.warning("the event log (%s) takes lines again, and has taken what waited", self._name)
        self._log_trouble = log_trouble
        if spool_trouble and not self._spool_trouble:
            logger.error("the spool takes no lines: %s; what the event log does not take is lost", spool_trouble)
        elif self._spool_trouble and not spool_trouble:
            logger.warning("the spool takes lines again")
        self._spool_trouble = spool_trouble
        if self._is_losing and not self._lost_lately:
            self._is_losing = False
            logger.warning("no event was lost lately; %d were lost so far", lost)
        self._lost_lately = False
