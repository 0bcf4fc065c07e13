from service.telemetry.throttle import LOG_INTERVAL, LogThrottle


def test_the_same_may_be_said_once_a_minute_whatever_else_is() -> None:
    times = iter([5.0, 6.0, 6.0, 4.9 + LOG_INTERVAL, 5.0 + LOG_INTERVAL, 6.0 + LOG_INTERVAL])
    throttle = LogThrottle(clock=lambda: next(times))
    reasons = ["no answer", "no answer", "too large", "no answer", "no answer", "no answer"]
    assert [throttle.may_say(reason) for reason in reasons] == [True, False, True, False, True, False]
