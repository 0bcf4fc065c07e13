"""The instruments of one process; those of several workers are in test_worker_metrics.py."""

from prometheus_client import generate_latest

from service.metrics import Children, Metrics


def test_two_sets_of_metrics_in_one_process_do_not_count_together() -> None:
    one, other = Metrics(), Metrics()
    one.lost.inc()
    assert b"events_lost_total 1.0" in generate_latest(one.exposed)
    assert b"events_lost_total 0.0" in generate_latest(other.exposed)


def test_a_child_is_the_one_that_the_library_gives() -> None:
    metrics = Metrics()
    children = Children(metrics.key_fetches)
    children["ok",].inc()
    assert children["ok",] is children["ok",] is metrics.key_fetches.labels("ok")


def test_the_time_of_the_last_fetch_is_there_once_it_was_asked_for() -> None:
    metrics = Metrics()
    assert b"keys_fetched" not in generate_latest(metrics.registry)
    metrics.keys_fetched_at.set(5)
    assert b"clerk_logout_keys_fetched_timestamp_seconds 5.0" in generate_latest(metrics.registry)


def test_counters_have_no_second_series_that_tells_their_birth() -> None:
    assert b"_created" not in generate_latest(Metrics().registry)
