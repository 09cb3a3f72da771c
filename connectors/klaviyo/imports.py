"""Klaviyo's bulk imports: so many profiles in one job, and what became of each of them.

https://developers.klaviyo.com/en/docs/use_klaviyos_bulk_profile_import_api: 10,000 profiles, 5 MB, 100 KB each. A job is
accepted and worked off later; its errors point at the places that profiles had in the request.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from ...core.model import Change, Operation, Outcome, OutcomeStatus
from ..transport import RefusedRequestError
from .api import Api
from .payload import import_job
from .refusals import place_of, refusal, rejected, without

_PROFILE_BYTES: Final = 100_000
_APPLIED: Final = Outcome(status=OutcomeStatus.APPLIED)
_LOST: Final = Outcome(
    status=OutcomeStatus.UNKNOWN,
    code="job_lost",
    reason="Klaviyo ended the import before it was done, or does not know it any more.",
)
_UNCLEAR: Final = Outcome(
    status=OutcomeStatus.UNKNOWN,
    code="job_unclear",
    reason="Klaviyo did not write some contacts of the import, and does not say which.",
)
_ENVELOPE: Final = len(orjson.dumps({"data": import_job([])}))


class Imports:
    """The import jobs of an account."""

    def __init__(self, api: Api, request_bytes: int) -> None:
        self._api = api
        self._request_bytes = request_bytes

    def begin(self, profiles: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Give the first of the profiles to a job, as many as its request holds; the others are unsent."""
        outcomes = [Outcome(status=OutcomeStatus.UNSENT)] * len(profiles)
        room, taken = self._request_bytes - _ENVELOPE, []
        for place, profile in enumerate(profiles):
            size = len(orjson.dumps(profile))
            if size > _PROFILE_BYTES:
                outcomes[place] = rejected("too_large")
                continue
            room -= size + 1
            if room < 0:
                break
            taken.append(place)
        if taken:
            told = self._begun([profiles[place] for place in taken])
            for place, outcome in zip(taken, told, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _begun(self, profiles: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Send one request. Where Klaviyo refuses it for one of its profiles, the others are unsent."""
        try:
            made = self._api.send("POST", "import", "/profile-bulk-import-jobs", import_job(profiles))
        except RefusedRequestError as refused:
            return without(len(profiles), refused)
        return [Outcome(status=OutcomeStatus.ACCEPTED, job=str(made["data"]["id"]))] * len(profiles)

    def ended(
        self, job: str, changes: Sequence[Change], found: Callable[[Sequence[Change]], Mapping[int, str]]
    ) -> list[Outcome]:
        """Say what became of a job's changes, in the order of its request. `found` gives ids by address, by key.

        Whoever was merged meanwhile is told by the new id and comes again; so does everybody of a job that was cancelled,
        that is over for a week, or that did not write more contacts than its errors point at.
        """
        told = self._told(job)
        status, count = told.get("status"), told.get("total_count")
        if status in {"queued", "processing"}:
            return [Outcome(status=OutcomeStatus.ACCEPTED, job=job)] * len(changes)
        if status != "complete" or count not in {None, len(changes)}:
            return [_LOST] * len(changes)
        unwritten = _unwritten(told, len(changes))
        refused = self._refused(job, len(changes)) if unwritten else {}
        others = _APPLIED if len(refused) >= unwritten else _UNCLEAR
        outcomes = [refused.get(place, others) for place in range(len(changes))]
        self._look_again(changes, outcomes, found)
        return outcomes

    def _told(self, job: str) -> Mapping[str, Any]:
        """Read a job; nothing of one that Klaviyo has forgotten."""
        try:
            found: Mapping[str, Any] = self._api.get("jobs", f"/profile-bulk-import-jobs/{job}")["data"]
        except RefusedRequestError as refused:
            if refused.status != 404:
                raise
            return {}
        attributes: Mapping[str, Any] = found["attributes"]
        return attributes

    def _refused(self, job: str, count: int) -> dict[int, Outcome]:
        """Say what Klaviyo refused, by the place in the request; an error that points at no place is left out."""
        path = f"/profile-bulk-import-jobs/{job}/import-errors"
        pages = self._api.pages("import-errors", path, {"page[size]": "100"})
        errors = [each["attributes"] for page, _ in pages for each in page["data"]]
        places = [place_of(error, count) for error in errors]
        return {
            place: refusal(error) for place, error in zip(places, errors, strict=True) if place is not None
        }

    def _look_again(
        self,
        changes: Sequence[Change],
        outcomes: list[Outcome],
        found: Callable[[Sequence[Change]], Mapping[int, str]],
    ) -> None:
        lost = [place for place, outcome in enumerate(outcomes) if outcome.code == "vanished"]
        ids = found([changes[place] for place in lost]) if lost else {}
        for place in lost:
            change = changes[place]
            new = ids.get(change.contact_key)
            if new is not None and new != change.record_id:
                outcomes[place] = Outcome(status=OutcomeStatus.UNSENT, record_id=new)
            elif change.operation is Operation.UNTAG:
                outcomes[place] = Outcome(status=OutcomeStatus.UNCHANGED)


def _unwritten(told: Mapping[str, Any], count: int) -> int:
    """Give how many of a job's contacts were not written: those that failed, and those that it neither did nor failed.

    The specification counts the completed and the failed apart (its example is 9 and 1 of 10), and lets both be null. A job
    that does not say how many it completed is believed to have completed whatever did not fail.
    """
    failed, done = told.get("failed_count") or 0, told.get("completed_count")
    return int(failed if done is None else failed + max(0, count - done - failed))
