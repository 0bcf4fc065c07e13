"""The example application in ``app/``, put together in ``.example/``; by itself: ``make example``.

There the page reaches the stand-in for Clerk as a proxy over plain HTTP; the browser tests have TLS and Clerk's host.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from service.sandbox.instance import PUBLISHABLE_KEY

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


def main() -> None:
    """Run the sandbox and ``next dev`` until Ctrl-C."""
    if not shutil.which("npm"):
        sys.exit("make example needs Node 20.9 or newer and npm; on Debian: apt-get install nodejs npm")
    assemble()
    clerk_url = "http://localhost:8001"
    scripts = f"{clerk_url}/npm/@clerk"
    environment = next_environment(
        api_url=clerk_url,
        publishable_key=PUBLISHABLE_KEY,
        NEXT_PUBLIC_CLERK_PROXY_URL=clerk_url,
        NEXT_PUBLIC_CLERK_JS_URL=f"{scripts}/clerk-js@6/dist/clerk.browser.js",
        NEXT_PUBLIC_CLERK_UI_URL=f"{scripts}/ui@1/dist/ui.browser.js",
        NEXT_PUBLIC_CLERK_LOGOUT_URL="http://localhost:8000",
        LOGOUT_SERVICE="http://localhost:8000",
    )
    sandbox = subprocess.Popen([sys.executable, "-m", "service", "sandbox", "--packages", PACKAGES], cwd=ROOT)
    example = subprocess.Popen(
        ["node_modules/.bin/next", "dev", "-H", "localhost", "-p", "3000"],
        cwd=EXAMPLE,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    sys.stderr.write(
        "\nThe example is at http://localhost:3000. Each event is one line below. Press Ctrl-C to stop.\n\n"
    )
    try:
        example.wait()
    except KeyboardInterrupt:
        pass  # both have heard it too
    finally:
        for process in (example, sandbox):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
