"""``deploy/pipeline/kcat/ship``: each closed file to Kafka as it is, and only then compressed."""

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.shipping import kafka, values
from tests.pipeline.test_syslog_ng import LINES, NOBODY
from tests.support.debian import need
from tests.support.processes import TIMEOUT

SHIP = Path("deploy/pipeline/kcat/ship")
LONG_AGO = 1_000_000_000
TEXT = b"".join(line + b"\n" for line in LINES)


@pytest.fixture
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rotated files, one that was rotated just now, and the current one."""
    logs = tmp_path_factory.mktemp("logs")
    for name in ("events-20261126-1.jsonl", "events-20261127-2.jsonl"):
        (logs / name).write_bytes(TEXT)
        os.utime(logs / name, (LONG_AGO, LONG_AGO))
    (logs / "events-20261128-3.jsonl").write_bytes(b"just now\n")
    (logs / "events.jsonl").write_bytes(b"current\n")
    os.utime(logs / "events.jsonl", (LONG_AGO, LONG_AGO))
    return logs


def ship(brokers: str, logs: Path) -> "subprocess.CompletedProcess[bytes]":
    need("kcat", "kcat")
    script = SHIP.read_text("utf-8")
    if brokers == NOBODY:
        script = script.replace("timeout.ms=30000", "timeout.ms=500")
    environment = os.environ | {"KAFKA": brokers}
    return subprocess.run(["sh", "-c", script, "ship", logs], env=environment, check=False, timeout=TIMEOUT)


def test_closed_files_are_sent_byte_for_byte_and_compressed(logs: Path) -> None:
    with kafka() as brokers:
        assert ship(brokers, logs).returncode == 0
        assert sorted(values(brokers)) == sorted(LINES * 2)
    assert gzip.decompress((logs / "events-20261126-1.jsonl.gz").read_bytes()) == TEXT
    assert sorted(path.name for path in logs.iterdir()) == [
        "events-20261126-1.jsonl.gz",
        "events-20261127-2.jsonl.gz",
        "events-20261128-3.jsonl",
        "events.jsonl",
    ]


def test_what_could_not_be_sent_is_sent_by_the_next_run(logs: Path) -> None:
    assert ship(NOBODY, logs).returncode != 0
    assert not [*logs.glob("*.gz")]
    with kafka() as brokers:
        assert ship(brokers, logs).returncode == 0
        assert sorted(values(brokers)) == sorted(LINES * 2)
