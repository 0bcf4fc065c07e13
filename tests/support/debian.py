"""Programs that come as Debian packages. Without one its tests are skipped; in CI that is a failure."""

import os
import shutil

import pytest


def need(program: str, package: str) -> str:
    """Give the path of a program, or skip the test and say what to install. ``.ci/run`` installs each."""
    # Debian's PATH has /usr/sbin for root only, and nginx is there.
    if path := shutil.which(program) or shutil.which(program, path="/usr/sbin"):
        return path
    missing = f"{program} is not here; on Debian: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
