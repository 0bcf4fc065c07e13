"""What a machine must have, and how to get it."""

import shutil
import subprocess
from collections.abc import Callable

from tests.benchmarks.contenders import NODE

PACKAGES = {"wrk": "wrk", "node": "nodejs", "npm": "npm", "redis-server": "redis-server"}
"""Programs, and the Debian package that has each."""
OLDEST_NODE = (20, 9)
"""What @clerk/backend wants."""


class MissingError(Exception):
    """Something is missing; each line of the text names one thing and how to get it."""


def check(find: Callable[[str], str | None] = shutil.which) -> None:
    """Look for every program, and install the contender's packages where they are not.

    Raises:
        MissingError: a program is missing or too old, or npm could not install.
    """
    if missing := [program for program in PACKAGES if find(program) is None]:
        raise MissingError(
            "\n".join(f"{program} is missing; on Debian: apt-get install {PACKAGES[program]}" for program in missing)
        )
    version = _output("node", "--version")
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < OLDEST_NODE:
        wanted = ".".join(map(str, OLDEST_NODE))
        raise MissingError(f"node is {version}, {wanted} or newer is needed; from nodejs.org, or Debian 13's nodejs")
    install_node_modules()


def install_node_modules() -> None:
    """Have npm install exactly what the lock names, unless it has since the lock was last changed.

    Raises:
        MissingError: it could not; the text shows what npm said.
    """
    installed, lock = NODE / "node_modules" / ".package-lock.json", NODE / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    done = subprocess.run(["npm", "ci", "--fetch-retries=1"], cwd=NODE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"npm ci in {NODE.name}/ failed:\n{done.stderr.strip()}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
