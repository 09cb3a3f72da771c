from datetime import datetime, timedelta

from segue.sync.store.runs import PlanStatus, RunStatus, StoredPlan
from segue.sync.store.store import Store

from ...conftest import Clock


def stored(plan_id: str, created_at: datetime, destination: str = "d") -> StoredPlan:
    return StoredPlan(
        plan_id=plan_id,
        destination=destination,
        created_at=created_at,
        status=PlanStatus.PLANNED,
        snapshot_id="s1",
        manifest={"creates": 3, "withheld": {"no_grant": 2}, "words": "é"},
    )


def test_a_plan_comes_back_as_it_was_saved(store: Store, clock: Clock) -> None:
    plan = stored("p1", clock.now)
    store.plans.save(plan)
    assert store.plans.get("p1") == store.plans.latest("d") == plan
    assert store.plans.get("p2") is None
    assert store.plans.latest("other") is None


def test_a_new_plan_supersedes_one_that_was_never_begun(store: Store, clock: Clock) -> None:
    store.plans.save(stored("p1", clock.now))
    store.plans.save(stored("elsewhere", clock.now, "other"))
    store.plans.set_status("p1", PlanStatus.APPLYING)
    clock.advance(timedelta(hours=1))
    store.plans.save(stored("p2", clock.now))
    clock.advance(timedelta(hours=1))
    store.plans.save(stored("p3", clock.now))
    plans = [store.plans.get(plan_id) for plan_id in ("p1", "p2", "p3", "elsewhere")]
    statuses = {plan.plan_id: plan.status.value for plan in plans if plan}
    assert statuses == {"p1": "applying", "p2": "superseded", "p3": "planned", "elsewhere": "planned"}
    assert store.plans.latest("d") == store.plans.get("p3")
    assert store.plans.latest("d", PlanStatus.APPLYING) == store.plans.get("p1")


def test_a_run_is_kept_with_its_end_and_report(store: Store, clock: Clock) -> None:
    started = store.runs.start("r1", "d", "sync")
    assert store.runs.last("d") == started
    clock.advance(timedelta(minutes=3))
    store.runs.finish("r1", exit_code=1, report={"rejected": 2})
    (run,) = store.runs.newest(10)
    assert (run.status, run.exit_code, run.report) == (RunStatus.FINISHED, 1, {"rejected": 2})
    assert run.finished_at == run.started_at + timedelta(minutes=3)


def test_a_run_that_stopped_early_has_failed(store: Store) -> None:
    store.runs.start("r1", "d", "sync")
    store.runs.finish("r1", exit_code=3, report={})
    assert [run.status for run in store.runs.newest(10)] == [RunStatus.FAILED]


def test_a_run_that_never_ended_is_marked_when_the_next_begins(store: Store, clock: Clock) -> None:
    store.runs.start("r1", "d", "sync")
    clock.advance(timedelta(hours=1))
    store.runs.start("e1", "other", "sync")
    clock.advance(timedelta(hours=1))
    store.runs.start("r2", "d", "sync")
    assert [(run.run_id, run.status.value) for run in store.runs.newest(10)] == [
        ("r2", "running"),
        ("e1", "running"),
        ("r1", "interrupted"),
    ]
    assert [run.run_id for run in store.runs.newest(1, "d")] == ["r2"]
    assert store.runs.last("nowhere") is None
