"""OpenTelemetry's log records, held to the messages of OTLP."""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict, ParseError  # type: ignore[import-untyped]
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData

from service.convert.otel import otel
from tests.convert.examples import EXAMPLES, golden


def parsed(data: dict[str, Any]) -> LogsData:
    """The message; OTLP's JSON has trace ids in hexadecimal, where that of Protobuf has base64."""
    copy = json.loads(json.dumps(data))
    record = copy["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    if "traceId" in record:
        record["traceId"] = base64.b64encode(bytes.fromhex(record["traceId"])).decode()
    message: LogsData = ParseDict(copy, LogsData())
    return message


def record(name: str) -> LogRecord:
    ((scope_logs,),) = (found.scope_logs for found in parsed(otel(EXAMPLES[name])).resource_logs)
    found: LogRecord = scope_logs.log_records[0]
    return found


def attributes(found: LogRecord) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found.attributes}


def test_each_event_becomes_what_is_expected() -> None:
    assert {name: otel(event) for name, event in EXAMPLES.items()} == golden("otel")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_record_says_what_the_event_says(name: str) -> None:
    event, found = EXAMPLES[name], record(name)
    assert found.event_name == f"clerk_logout.{event['event']}"
    assert found.trace_id.hex() == (event["trace_id"] or "")
    said = attributes(found)
    assert said.pop("log.record.uid") == event["event_id"]
    own = {key.removeprefix("clerk_logout."): value for key, value in said.items() if key.startswith("clerk_logout.")}
    assert own == {key: value for key, value in event.items() if key in own}
    assert {"user.id": event["user_id"], "session.id": event["session_id"]}.items() >= {
        key: value for key, value in said.items() if key in {"user.id", "session.id"}
    }.items()


def test_the_time_is_when_it_happened_and_then_when_it_was_told() -> None:
    event = EXAMPLES["session_ended"] | {"ended_at": "2026-11-20T00:00:00.000001Z"}
    found = otel(event)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert found["timeUnixNano"] == "1795132800000001000"
    assert found["observedTimeUnixNano"] == "1795254258123456000"


def test_otlps_messages_notice_what_is_wrong() -> None:
    data = otel(EXAMPLES["user_logout"])
    data["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["severityNumber"] = "loud"
    with pytest.raises(ParseError):
        parsed(data)
