"""The programs between the event file and the warehouse, each as an operator runs it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from tests.pipeline.consumer import TOPIC
from tests.support.debian import need
from tests.support.processes import ROOT, TIMEOUT

CONFIGURATION = Path("deploy/pipeline/syslog-ng/clerk-logout.conf")
STANZA = Path("deploy/pipeline/logrotate/clerk-logout")


@contextmanager
def kafka() -> Iterator[str]:
    """A broker on 127.0.0.1, librdkafka's own for tests, with 4 partitions for each topic; gives its address."""
    with Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1}) as owner:
        (broker,) = owner.list_topics(timeout=TIMEOUT).brokers.values()
        yield f"{broker.host}:{broker.port}"


def values(brokers: str) -> list[bytes]:
    """All that the topic holds, each partition in its order."""
    found: list[bytes] = []
    settings = {"bootstrap.servers": brokers, "group.id": "looking", "enable.partition.eof": True}
    with Consumer(settings) as consumer:
        partitions = consumer.list_topics(TOPIC, timeout=TIMEOUT).topics[TOPIC].partitions
        consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in partitions])
        ends = 0
        while ends < len(partitions):
            for message in consumer.consume(1000, timeout=0.1):
                if message.error() is None:
                    found.append(message.value() or b"")
                else:
                    ends += 1
    return found


class Killable:
    """A program that a test kills as a crash does, and starts again; leaving it kills it."""

    process: "subprocess.Popen[bytes]"
    _command: list[str]

    def start(self) -> None:
        """Start it, after a kill too."""
        self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class SyslogNg(Killable):
    """Debian's syslog-ng with our configuration, over a directory of event files; what is its own lies beside that.

    Args:
        brokers: Kafka's.
        event_logs: where the event files are.
    """

    def __init__(self, brokers: str, event_logs: Path) -> None:
        own = event_logs.with_name("syslog-ng")
        own.mkdir(exist_ok=True)
        changes = {"kafka": brokers, "event-log-directory": str(event_logs), "buffer-directory": str(own)}
        text = CONFIGURATION.read_text("utf-8")
        for name, value in changes.items():
            text, times = re.subn(rf'(?m)^(@define {name} +)".*"$', rf'\g<1>"{value}"', text)
            assert times == 1, name
        (own / "syslog-ng.conf").write_text(text, "utf-8")
        self.control = own / "control"
        files = {"cfgfile": "syslog-ng.conf", "control": "control", "persist-file": "positions", "pidfile": "pid"}
        self._command = [need("syslog-ng", "syslog-ng-mod-rdkafka"), "--foreground", "--no-caps"]
        self._command += [f"--{option}={own / name}" for option, name in files.items()]

    def has_read(self, lines: int) -> bool:
        """Whether it has read so many lines since it started, and they may wait for Kafka."""
        command = [need("syslog-ng-ctl", "syslog-ng-mod-rdkafka"), "stats", f"--control={self.control}"]
        stats = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT).stdout
        return re.findall(r"^dst\.kafka;.*;processed;(\d+)$", stats, re.MULTILINE) == [str(lines)]


class ConsumerProcess(Killable):
    """``tests.pipeline.consumer`` as a process."""

    def __init__(self, brokers: str, warehouse: Path) -> None:
        self._command = [sys.executable, "-m", "tests.pipeline.consumer", brokers, str(warehouse)]

    def start(self) -> None:
        """Start it and wait until it consumes."""
        super().start()
        self.events()

    def events(self) -> int:
        """How many distinct events are in the table."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


def rotate(event_logs: Path, shipper: SyslogNg, *, attempts: int = 50) -> "subprocess.CompletedProcess[str]":
    """Run logrotate with our stanza over these event files, now; it looks so often whether all is shipped."""
    control = f"syslog-ng-ctl stats --control={shipper.control}"
    text = STANZA.read_text("utf-8").replace("/var/log/clerk-logout/", f"{event_logs}/")
    stanza = event_logs.parent / "logrotate.conf"
    stanza.write_text(text.replace("syslog-ng-ctl stats", control).replace("seq 60", f"seq {attempts}"), "utf-8")
    command = [need("logrotate", "logrotate"), "--force", f"--state={event_logs.parent}/logrotate.state", str(stanza)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
