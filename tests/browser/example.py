"""The example application in ``app/``: put together in ``.example/``, and run against the sandbox by ``make example``."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".example"
PACKAGES = EXAMPLE / "packages"
"""Where clerk-js and Clerk's components are unpacked for the stand-in to serve."""
OUT_OF_REACH = {"NEXT_TELEMETRY_DISABLED": "1", "NEXT_PUBLIC_CLERK_TELEMETRY_DISABLED": "1"}


def assemble() -> None:
    """Copy the application and ``deploy/nextjs`` into ``.example/``, and install what package.json names, once."""
    source = ROOT / "tests/browser/app"
    shutil.copytree(source, EXAMPLE, dirs_exist_ok=True)
    shutil.rmtree(EXAMPLE / "clerk-logout", ignore_errors=True)
    shutil.copytree(ROOT / "deploy/nextjs", EXAMPLE / "clerk-logout")
    wanted, installed = (source / "package.json").read_text("utf-8"), EXAMPLE / "installed.json"
    if installed.exists() and installed.read_text("utf-8") == wanted:
        return
    npm("install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
    for name, version in json.loads(wanted)["config"].items():
        (archive,) = json.loads(npm("pack", "--json", f"@clerk/{name}@{version}"))
        shutil.rmtree(PACKAGES / name, ignore_errors=True)
        (PACKAGES / name).mkdir(parents=True)
        path = EXAMPLE / archive["filename"]
        subprocess.run(["tar", "-xzf", path, "-C", PACKAGES / name, "--strip-components=1"], check=True)
        path.unlink()
    installed.write_text(wanted, "utf-8")


def npm(*arguments: str) -> str:
    return subprocess.run(["npm", *arguments], cwd=EXAMPLE, check=True, stdout=subprocess.PIPE, text=True).stdout


def next_environment(*, api_url: str, publishable_key: str, **variables: str) -> dict[str, str]:
    """The environment in which the application talks to the stand-in."""
    return {
        **os.environ,
        **OUT_OF_REACH,
        "CLERK_SECRET_KEY": "sk_test_sandbox",
        "CLERK_API_URL": api_url,
        "NEXT_PUBLIC_CLERK_PUBLISHABLE_KEY": publishable_key,
        **variables,
    }
