from service.telemetry.throttle import LOG_INTERVAL, LogThrottle


def test_the_same_may_be_said_once_a_minute() -> None:
    now = 5.0
    throttle = LogThrottle(clock=lambda: now)
    said = []
    for now in (5.0, 6.0, 5.0 + LOG_INTERVAL - 0.1, 5.0 + LOG_INTERVAL, 6.0 + LOG_INTERVAL, 5.0 + 2 * LOG_INTERVAL):  # noqa: B007 - the clock reads it
        said.append(throttle.may_say("no answer"))  # noqa: PERF401 - the clock reads the loop's variable
    assert said == [True, False, False, True, False, True]


def test_one_reason_does_not_hide_another() -> None:
    throttle = LogThrottle()
    assert [throttle.may_say(reason) for reason in ("no answer", "too large", "no answer")] == [True, True, False]
