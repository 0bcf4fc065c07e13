"""OpenTelemetry's log records, held to the messages of OTLP."""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from service.convert.standards import otel
from tests.convert.examples import EXAMPLES


def parsed(data: dict[str, Any]) -> LogsData:
    """The message; OTLP's JSON has trace ids in hexadecimal, where that of Protobuf has base64."""
    copy = json.loads(json.dumps(data))
    record = copy["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    if "traceId" in record:
        record["traceId"] = base64.b64encode(bytes.fromhex(record["traceId"])).decode()
    message: LogsData = ParseDict(copy, LogsData())
    return message


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_record_holds_to_otlp(name: str) -> None:
    ((scope_logs,),) = (found.scope_logs for found in parsed(otel(EXAMPLES[name])).resource_logs)
    assert scope_logs.log_records[0].event_name == f"clerk_logout.{EXAMPLES[name]['event']}"


def test_no_key_is_lost() -> None:
    for event in EXAMPLES.values():
        known = {key: value for key, value in event.items() if value is not None}
        said = str(otel(event))
        # The two times are there as nanoseconds.
        assert {key for key, value in known.items() if str(value) not in said} <= {"timestamp", "ended_at"}


def test_the_time_is_when_it_happened_and_then_when_it_was_told() -> None:
    event = EXAMPLES["session_ended"] | {"ended_at": "2026-11-20T00:00:00.000001Z"}
    found = otel(event)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert found["timeUnixNano"] == "1795132800000001000"
    assert found["observedTimeUnixNano"] == "1795254258123456000"
