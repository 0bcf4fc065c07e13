"""OCSF events, held to OCSF's own schema."""

from typing import Any

import jsonschema_rs
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]

from service.convert.standards import ocsf
from tests.convert.examples import EXAMPLES

SCHEMA = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0")).get_class_schema("authentication")
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
TOLD = {name: event for name, event in EXAMPLES.items() if ocsf(event) is not None}


def converted(name: str) -> dict[str, Any]:
    event = ocsf(EXAMPLES[name])
    assert event is not None
    return event


@pytest.mark.parametrize("name", TOLD)
def test_an_event_holds_to_ocsf(name: str) -> None:
    VALIDATOR.validate(converted(name))


def test_only_clerks_word_is_a_success() -> None:
    statuses = {name: event["status"] for name in TOLD if (event := converted(name))["status"] != "Unknown"}
    assert statuses == {
        "session_ended": "Success",
        "session_ended, revoked": "Success",
        "user_logout_everywhere": "Success",
        "user_logout_everywhere, in part": "Failure",
        "session_used_after_logout": "Failure",
    }


def test_no_key_is_lost() -> None:
    for name in TOLD:
        known = {key: value for key, value in EXAMPLES[name].items() if value is not None}
        said = str(converted(name))
        assert [key for key in converted(name)["unmapped"] if key not in known] == []
        # The two times are there as milliseconds, too.
        assert [key for key, value in known.items() if str(value) not in said and key != "timestamp"] == []
