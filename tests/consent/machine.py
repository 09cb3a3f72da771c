"""Everything that can happen to consent, drawn by Hypothesis in any order; after each step nobody may be wronged.

What each thing does, and who watches, is the town's. Weights are in how many rules there are and what they draw.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from operator import methodcaller
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, get_state_machine_test, initialize, precondition, rule

from segue.connectors.faults import FaultKind

from .happenings import ELSEWHERE, HERE, Act, Batch, Doing, Failure, Kill, Meanwhile, Moment, News
from .town import ADDRESSES, DESTINATIONS, PEOPLE, Town

people, destinations, addresses = (st.sampled_from(each) for each in (PEOPLE, DESTINATIONS, ADDRESSES))
scopes = st.sampled_from([{}, {}, {"purpose": "newsletter"}, {"purpose": "all"}, {"channel": "e-mail"}])
# What is new when a run begins: who said no, whether a marketer edited all since, what each bought, who moved where.
news = st.builds(
    News,
    bought=st.lists(st.sampled_from([20.0, 50.0, 150.0]), min_size=len(PEOPLE), max_size=len(PEOPLE)),
    moved=st.lists(st.tuples(people, addresses), min_size=1, max_size=2),
    refused=st.none() | st.none() | st.tuples(people, scopes),
    edited=st.booleans(),
)
changes = st.one_of(
    st.builds(methodcaller, st.just("withdraws"), people, scopes),
    st.builds(methodcaller, st.just("agrees"), people, st.booleans()),
    st.builds(methodcaller, st.just("moves"), people, addresses),
    st.builds(methodcaller, st.just("vanishes_or_comes_back"), people),
    st.builds(methodcaller, st.just("stale"), st.integers(0, 5)),
)
acts = st.sampled_from([Act.LEAVE, Act.LEAVE, Act.JOIN, *Act])


def doings(
    what: Sequence[Act], where: Sequence[str], told: Sequence[bool]
) -> st.SearchStrategy[tuple[Doing, ...]]:
    """Draw one thing that each does: who joins, leaves and is gone between two requests is seen by nobody."""
    each = [
        st.builds(
            Doing,
            person=st.just(person),
            destination=st.sampled_from(where),
            act=st.sampled_from(what),
            told=st.sampled_from(told),
        )
        for person in PEOPLE
    ]
    return st.tuples(*each)


meanwhiles = st.builds(
    Meanwhile,
    moment=st.sampled_from(
        [
            *(Moment(of="look", number=number) for number in (0, 0, 1, 1)),
            *(Moment(of="write", number=number) for number in range(3)),
            Moment(of="any", number=4),
        ]
    ),
    doings=doings([*Act, *[Act.LEAVE] * 6], (HERE, HERE, HERE, ELSEWHERE), (False, True)),
)
# Who leaves while an answer gets lost: known here at once, or by the next look alone.
meanwhiles_of_faults = st.builds(
    Meanwhile,
    moment=st.just(Moment(of="fault")),
    doings=doings([Act.LEAVE, Act.LEAVE, Act.COMPLAIN], (ELSEWHERE, ELSEWHERE, HERE), (True, True, False)),
)
failures = st.builds(
    Failure,
    kind=st.sampled_from(
        [FaultKind.RESET, FaultKind.UNAVAILABLE, FaultKind.LOST_ANSWER, FaultKind.TRUNCATED]
    ),
    count=st.sampled_from([1, 1, 5]),
    batch=st.sampled_from([Batch.WRITE, Batch.WRITE, Batch.WRITE, Batch.MOVE]),
)
lossy = st.tuples(meanwhiles_of_faults, failures.map(lambda failure: [failure]))
troubles = st.tuples(meanwhiles, st.just(list[Failure]())) | lossy
kills = st.builds(Kill, number=st.integers(4, 14), sent=st.booleans())


class Machine(RuleBasedStateMachine):
    """A town, and what happens there."""

    def __init__(self, sandboxes: Sequence[Any]) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.town = Town(Path(folder), sandboxes)
        self.stack.callback(self.town.close)

    @initialize(
        mode=st.sampled_from(["permissive", "adversarial"]),
        agreed=st.sets(people, min_size=1),
        settled=st.sampled_from([DESTINATIONS[1:], DESTINATIONS]),
        heard=news,
        trouble=troubles,
    )
    def begin(
        self,
        mode: str,
        agreed: set[str],
        settled: Sequence[str],
        heard: News,
        trouble: tuple[Meanwhile, list[Failure]],
    ) -> None:
        """Begin with one account that knows everybody, or both, and with a run that is not left in peace."""
        self.town.temper(mode)
        for person in sorted(agreed):
            self.town.agreed_long_ago(person)
        self.town.publish()
        for destination in settled:
            self.town.run(destination)
        self.town.hears(heard, DESTINATIONS[0])
        self.town.run(DESTINATIONS[0], meanwhile=trouble[0], failures=trouble[1])
        self.look()

    def teardown(self) -> None:
        with self.stack:
            if not self.town.watchman.wrong:
                self.town.settle()
            self.look()

    def look(self) -> None:
        assert not self.town.watchman.wrong, "\n".join(self.town.watchman.wrong)

    @rule(
        person=people,
        destination=destinations,
        what=st.lists(acts, min_size=1, max_size=3),
        told=st.booleans(),
    )
    def somebody_acts(self, person: str, destination: str, what: list[Act], told: bool) -> None:
        for act in what:
            self.town.do(Doing(person=person, destination=destination, act=act, told=told))
        self.look()

    @precondition(lambda self: self.town.mail)
    @rule(place=st.integers(0, 30), again=st.booleans())
    def a_webhook_arrives(self, place: int, again: bool) -> None:
        """Late, out of order, or not for the last time; those that stay in the bag are lost."""
        place %= len(self.town.mail)
        letter = self.town.mail[place] if again else self.town.mail.pop(place)
        self.town.deliver(letter)
        self.look()

    @rule(changes=st.lists(changes, min_size=1, max_size=3))
    def the_shop_changes(self, changes: list[Callable[[Town], None]]) -> None:
        for change in changes:
            change(self.town)

    @rule(destination=destinations, heard=news, meanwhile=st.none() | meanwhiles | meanwhiles)
    def a_run(self, destination: str, heard: News, meanwhile: Meanwhile | None) -> None:
        self.town.hears(heard, destination)
        self.town.run(destination, meanwhile=meanwhile)
        self.look()

    @rule(destination=destinations, heard=news, trouble=lossy)
    def a_run_that_hears_no_answer(
        self, destination: str, heard: News, trouble: tuple[Meanwhile, list[Failure]]
    ) -> None:
        self.town.hears(heard, destination)
        self.town.run(destination, meanwhile=trouble[0], failures=trouble[1])
        self.look()

    @rule(destination=destinations, heard=news, kill=kills)
    def a_run_that_is_killed(self, destination: str, heard: News, kill: Kill) -> None:
        self.town.hears(heard, destination)
        self.town.run(destination, kill=kill)
        self.look()

    @rule(destination=destinations)
    def a_full_look(self, destination: str) -> None:
        self.town.run(destination, full=True)
        self.look()

    @rule(destination=destinations, seconds=st.sampled_from([20, 3600]))
    def some_time_passes(self, destination: str, seconds: int) -> None:
        self.town.tick(seconds)
        self.town.serve(destination)
        self.look()


def search(
    sandboxes: Sequence[Any],
    *,
    examples: int,
    steps: int,
    number: int,
    shrink: bool = True,
    on_begin: Callable[[Machine], None] = lambda _: None,
) -> None:
    """Search so many programmes of so many steps, always the same for one number. Raises what the machine finds.

    `on_begin` is told of each programme.
    """

    def machine() -> Machine:
        made = Machine(sandboxes)
        on_begin(made)
        return made

    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        print_blob=False,
        report_multiple_bugs=False,
    )
    test = get_state_machine_test(machine, settings=chosen)  # type: ignore[arg-type]  # it is called, no more
    seed(number)(test)()
