"""What is given to Klaviyo's import jobs, and what their answers mean for each contact."""

from dataclasses import replace
from typing import Any

import pytest

from segue.connectors.klaviyo.emulator.jobs import Job, Jobs

from .account import Account, statuses


def test_a_refused_import_is_told_of_the_contact_that_it_points_at_and_of_nobody_else(
    account: Account,
) -> None:
    updates = account.people_made(20, fields={"sg_text": "x"})
    updates[0] = replace(updates[0], fields={"sg_text": "x" * 100_001})  # never sent
    # Small enough by our count, and too large for the emulator, which counts the spaces of its own JSON.
    updates[5] = replace(updates[5], fields={f"sg_{number:03}": "x" * 240 for number in range(396)})
    outcomes = account.write(*updates)
    assert outcomes[0].code == "too_large"
    assert statuses(outcomes)[1:] == ["unsent"] * 4 + ["rejected"] + ["unsent"] * 14


def test_who_a_job_neither_did_nor_failed_is_never_taken_for_written(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Jobs.submit

    def forgetful(*given: Any, **more: Any) -> Job:
        job = submit(*given, **more)
        run = job.run

        def passing_over(job: Job, number: int) -> bool:
            if number != 7:
                return run(job, number)
            job.done -= 1  # as many as it counts after this
            return True

        job.run = passing_over
        return job

    monkeypatch.setattr(Jobs, "submit", forgetful)
    outcomes = account.done(*account.people_made(20, fields={"sg_text": "x"}))
    assert {outcome.code for outcome in outcomes} == {"job_unclear"}
