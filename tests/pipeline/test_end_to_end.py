"""From the call to ClickHouse's table, with everything in between killed: every event arrives."""

import gzip
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.load import steady
from tests.faults.requests import logouts, valid
from tests.pipeline.shipping import ConsumerProcess, SyslogNg, kafka, rotate
from tests.pipeline.warehouse import Warehouse
from tests.support.processes import serve, wait_until

COUNT = 20_000
RATE = 1000
TORN = b'{"event":"user_logout","schema_version":1,"event_id":"01a1fd83-03f2-7493'


class Progress:
    """Requests that log out, and how many were made so far."""

    def __init__(self) -> None:
        self.made = 0
        self._request = logouts([*valid(500), None])

    def __call__(self, number: int) -> bytes:
        self.made = number
        return self._request(number)

    def wait_for(self, number: int) -> None:
        wait_until(lambda: self.made >= number, f"call {number}", seconds=COUNT / RATE + 60)


@pytest.mark.slow
def test_every_event_arrives_over_kills_rotation_and_a_torn_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("pipeline")  # not tmp_path, whose event files must be whole
    logs = directory / "logs"
    logs.mkdir()
    event_log = logs / "events.jsonl"
    event_log.write_bytes(TORN)  # of a service that was killed
    settings = {"EVENT_LOG": str(event_log), "FLOOD_PER_SESSION": "1000000"}
    request = Progress()
    with (
        kafka() as brokers,
        serve(settings=settings) as service,
        SyslogNg(brokers, logs) as shipper,
        ConsumerProcess(brokers, directory / "warehouse") as consuming,
        ThreadPoolExecutor(1) as thread,
    ):
        load = thread.submit(steady, service.url, request, rate=RATE, seconds=COUNT / RATE)
        for number, chaos in enumerate([shipper, None, consuming, None] * 2, 1):
            request.wait_for(COUNT * number // 10)
            if chaos is None:
                assert rotate(logs, shipper).stderr == ""
            else:
                chaos.kill()
                chaos.start()
        outcome = load.result()
        assert outcome.failures == {}
        # Also those that were not recorded in time, on a busy machine: they are written late.
        answered = {answer.event_id for answer in outcome.answers}
        assert len(answered) == COUNT
        wait_until(lambda: consuming.events() >= COUNT, "all events in the table")
    with Warehouse(directory / "warehouse") as warehouse:
        assert {row["event_id"] for row in warehouse.rows("SELECT event_id FROM events")} == answered
        assert warehouse.one("SELECT count() FROM events FINAL") == COUNT
        assert warehouse.rows("SELECT line FROM bad FINAL") == [{"line": TORN.decode()}]
    files = sorted(logs.iterdir())
    assert [path.suffix for path in files] == [".gz"] * 3 + [".jsonl"] * 2
    assert gzip.decompress(files[0].read_bytes()).startswith(TORN)
