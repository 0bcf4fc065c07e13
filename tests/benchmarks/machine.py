"""What a machine must have, and what was measured on and with. Neither a host's name nor a path is told."""

import json
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.contenders import NODE

PYTHON_PACKAGES = (
    *("uvicorn", "httptools", "uvloop", "starlette", "fastapi", "cryptography"),
    *("clerk-backend-api", "pyjwt", "joserfc", "structlog", "orjson", "redis"),
)
PROGRAMS = {"wrk": "wrk", "node": "nodejs", "npm": "npm", "redis-server": "redis-server"}
"""Programs, and the Debian package that has each."""
NODE_PACKAGES = ("@clerk/backend", "hono", "@hono/node-server")


class MissingError(Exception):
    """Something is missing; each line of the text names one thing and how to get it."""


def check() -> None:
    """Look for every program, and install the contender's packages where they are not."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        lines = [f"{program} is missing; on Debian: apt-get install {PROGRAMS[program]}" for program in missing]
        raise MissingError("\n".join(lines))
    # npm installs exactly what the lock names, unless it has since the lock was last changed.
    installed, lock = NODE / "node_modules" / ".package-lock.json", NODE / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    done = subprocess.run(["npm", "ci", "--fetch-retries=1"], cwd=NODE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"npm ci in {NODE.name}/ failed:\n{done.stderr.strip()}")


def machine() -> str:
    """Give cores, processor, kernel, and how busy it was just now."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    busy, _, _ = os.getloadavg()
    processor, system = model[1] if model else platform.machine(), f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, {processor}, {system}; load average {busy:.1f} before the first run"


def versions() -> str:
    lock = json.loads((NODE / "package-lock.json").read_text("utf-8"))["packages"]
    named = {"Python": platform.python_version()}
    named |= {package: version(package) for package in PYTHON_PACKAGES}
    named |= {"Node": _first_number("node", "--version")}
    named |= {package: lock[f"node_modules/{package}"]["version"] for package in NODE_PACKAGES}
    named |= {"wrk": _first_number("wrk", "--version"), "Redis": _first_number("redis-server", "--version")}
    return ", ".join(f"{name} {number}" for name, number in named.items())


def commit() -> str:
    """Give the commit, and whether something was changed since; where there is no git, say so."""
    try:
        return _output("git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _first_number(*command: str) -> str:
    """Give the first version number that a program prints; wrk prints its own and exits with 1."""
    found = re.search(r"\d+(\.\d+)+", _output(*command, check=False))
    return found[0] if found else "of unknown version"


def _output(*command: str, check: bool = True) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=check, cwd=NODE.parents[2]).stdout
