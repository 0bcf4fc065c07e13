"""``python -m service``, and the packaged command ``clerk-logout``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line. A SIGTERM while ``serve`` is still importing ends it with 0, as it does later."""
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from service.cli import main as command_line  # noqa: PLC0415 - takes a third of a second

    command_line()


if __name__ == "__main__":
    main()
