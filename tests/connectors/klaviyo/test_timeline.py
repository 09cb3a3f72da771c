"""The order in which the local Klaviyo reads people and events."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from segue.connectors.klaviyo.emulator.timeline import Timeline

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
NAMES = "abcdefgh"


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def names(timeline: Timeline, **how: object) -> list[str]:
    return [name for _, name in timeline.walk(**how)]  # type: ignore[arg-type] # passed on as they are


@given(
    acts=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-1, 5)), max_size=400),
    size=st.integers(1, 5),
    newest_first=st.booleans(),
)
def test_every_name_stands_once_where_it_was_put_last_and_pages_meet(
    acts: list[tuple[str, int]], size: int, newest_first: bool
) -> None:
    timeline, expected = Timeline(), dict[str, tuple[int, int]]()
    for order, (name, minute) in enumerate(acts):
        if minute < 0:
            timeline.drop(name)
            expected.pop(name, None)
        else:
            timeline.put(name, at(minute))
            expected[name] = (minute, order)
    ordered = sorted(expected, key=lambda name: expected[name], reverse=newest_first)
    paged, after = [], None
    while True:
        page = [
            row
            for row, _ in zip(
                timeline.walk(after=after, newest_first=newest_first), range(size), strict=False
            )
        ]
        if not page:
            break
        after = page[-1][0]
        paged += [name for _, name in page]
    assert paged == names(timeline, newest_first=newest_first) == ordered
    assert len(timeline) == len(expected)
    later = {name for name in expected if expected[name][0] >= 3}
    assert set(names(timeline, since=at(3), newest_first=newest_first)) == later


def test_what_moves_on_and_on_leaves_no_rows_behind() -> None:
    timeline = Timeline()
    for minute in range(10_000):
        timeline.put(NAMES[minute % 8], at(minute))
    assert len(timeline._rows) < 100


def test_a_page_from_an_instant_on_does_not_look_at_what_came_before() -> None:
    timeline = Timeline()
    for minute in range(1000):
        timeline.put(f"p{minute}", at(minute))

    class Counted(list[tuple[datetime, int, str]]):
        looks = 0

        def __getitem__(self, where: int) -> tuple[datetime, int, str]:  # type: ignore[override] # no slices here
            self.looks += 1
            return super().__getitem__(where)

    timeline._rows = counted = Counted(timeline._rows)
    assert names(timeline, since=at(995)) == [f"p{minute}" for minute in range(995, 1000)]
    assert counted.looks < 30
