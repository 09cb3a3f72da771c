from segue.connectors.meter import POINTS, Meter
from segue.core.model import RateLimit


def count(meter: Meter, sent: float, *, status: int = 200, throttled: bool = False) -> None:
    meter.count(
        "GET", sent=sent, seconds=0.5, status=status, throttled=throttled, failed=status >= 500 or not status
    )


def test_the_timeline_says_what_was_sent_in_each_second() -> None:
    meter = Meter(100.0, (RateLimit(count=3, seconds=10),))
    count(meter, 100.2)
    count(meter, 100.9, status=429, throttled=True)
    count(meter, 102.5, status=500)
    count(meter, 102.6, status=0)
    traffic = meter.traffic()
    points = [(point.requests, point.refused, point.failed) for point in traffic.timeline.points]
    assert (traffic.timeline.seconds, points) == (1.0, [(2, 1, 0), (0, 0, 0), (2, 0, 2)])
    assert traffic.rate_limits == (RateLimit(count=3, seconds=10),)
    assert dict(traffic.by_status) == {"2xx": 1, "4xx": 1, "5xx": 1, "none": 1}
    assert (traffic.requests, traffic.throttled, traffic.failed, traffic.seconds) == (4, 1, 2, 2.0)


def test_a_long_timeline_is_merged_and_loses_nothing() -> None:
    meter = Meter(0.0, ())
    for second in range(5000):
        count(meter, float(second))
    timeline = meter.traffic().timeline
    assert len(timeline.points) <= POINTS
    assert sum(point.requests for point in timeline.points) == 5000
    assert {point.requests for point in timeline.points[:-1]} == {int(timeline.seconds)}


def test_one_request_after_a_long_pause_costs_no_more_room() -> None:
    meter = Meter(0.0, ())
    count(meter, 0.0)
    count(meter, 1e7)
    timeline = meter.traffic().timeline
    assert len(timeline.points) <= POINTS
    assert [point.requests for point in timeline.points if point.requests] == [1, 1]
