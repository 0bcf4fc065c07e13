"""``python -m service``, and the packaged command ``clerk-logout``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line. While ``serve`` is still importing, signals end it as they do later.

    SIGUSR1 and SIGUSR2, from log rotation, do nothing.
    """
    if sys.argv[1:2] == ["serve"]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: os._exit(0))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    from service.cli import main as command_line  # noqa: PLC0415 - takes a third of a second

    command_line()


if __name__ == "__main__":
    main()
