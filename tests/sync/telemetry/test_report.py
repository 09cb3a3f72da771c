"""The report of a run: where its time went."""

import pytest

from segue.sync import report as module
from segue.sync.report import Report


def test_seconds_of_a_phase_within_a_phase_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    instants = iter([0.0, 1.0, 4.0, 10.0, 10.0, 12.0])
    monkeypatch.setattr(module, "monotonic", lambda: next(instants))
    report = Report(run_id="r1", destination="newsletter")
    with report.phase("plan"), report.phase("pull"):
        pass
    with pytest.raises(ZeroDivisionError), report.phase("plan"):
        raise ZeroDivisionError
    assert report.phases == {"pull": 3.0, "plan": 9.0}
