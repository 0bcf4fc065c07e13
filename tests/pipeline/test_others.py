"""What cannot be run here is at least of the form it should have, and says so."""

from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

PIPELINE = Path("deploy/pipeline")
NOT_RUN = sorted(PIPELINE.glob("*/*.yaml"))


@pytest.mark.parametrize("path", NOT_RUN, ids=str)
def test_a_configuration_that_is_not_run_says_so(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# Not run here. ")
    shown = str(yaml.safe_load(text))
    for common in ("/var/log/clerk-logout/events*.jsonl", "clerk-logout", "kafka-1:9092"):
        assert common in shown


def test_the_readme_names_every_file() -> None:
    readme = (PIPELINE / "README.md").read_text("utf-8")
    files = [path.relative_to(PIPELINE) for path in PIPELINE.glob("*/*") if path.parent.name != "sql"]
    assert len(files) >= 8
    assert [str(path) for path in files if f"({path})" not in readme] == []
