"""Writing to profiles that are there: a few one by one, many by a job; what is no part of a profile besides.

A profile is named by its id alone, so that nobody can be made who could be mailed. No decision about consent is taken.
Lists come after the fields, since a flow may begin with a list: of those in a job, once it has ended. The loser was to put
them on at once, while the job that writes their fields is still waiting.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

from ...core.model import Change, FieldType, Jobs, Operation, Outcome, OutcomeStatus
from ..transport import RefusedRequestError
from .api import Api, error_of
from .imports import Imports
from .payload import LEFT, is_sendable, properties_of, update
from .profiles import Profiles
from .refusals import refusal, rejected
from .tags import Tags

_APPLIED: Final = Outcome(status=OutcomeStatus.APPLIED)
_UNCHANGED: Final = Outcome(status=OutcomeStatus.UNCHANGED)


class Updates:
    """Writes fields and tags to the profiles of one account."""

    def __init__(self, api: Api, profiles: Profiles, tags: Tags, jobs: Jobs) -> None:
        self._api = api
        self._profiles = profiles
        self._tags = tags
        self._singly = jobs.singly
        self._imports = Imports(api, jobs.request_bytes)

    def write(self, changes: Sequence[Change], types: Mapping[str, FieldType]) -> list[Outcome]:
        """Write a few profiles one by one, and many by a job."""
        properties = {
            change.contact_key: {**properties_of(change, types), **self._tags.as_value(change)}
            for change in changes
        }
        fit = [change for change in changes if is_sendable(properties[change.contact_key])]
        bare = [change for change in fit if self._tags.apart and not change.fields]
        filled = [change for change in fit if change.fields or not self._tags.apart]
        # A list may take an id that is nobody's any more without a word: who gets nothing but tags is looked up.
        ids = {**self._profiles.ids(filled), **self._profiles.looked_up(bare)}
        known = [change for change in filled if change.contact_key in ids]
        if len(known) > self._singly and not any(map(self._tags.as_patch, known)):
            told = self._imported(known, ids, properties)
        else:
            told = [
                self._patched(change, ids[change.contact_key], properties[change.contact_key])
                for change in known
            ]
        unfit = properties.keys() - {change.contact_key for change in fit}
        outcomes = dict.fromkeys(unfit, rejected("invalid_field"))
        outcomes |= dict.fromkeys((change.contact_key for change in bare), _APPLIED)
        outcomes |= {change.contact_key: outcome for change, outcome in zip(known, told, strict=True)}
        ended = [outcomes.get(change.contact_key) or _gone(change) for change in changes]
        return self._carried(changes, ended, ids)

    def ended(self, job: str, changes: Sequence[Change]) -> list[Outcome]:
        """Say what became of the changes that a job took, and put onto their lists those whom it wrote.

        Nobody is put onto a list who left while the job was at work: the gate saw them before it began.
        """
        outcomes = self._imports.ended(job, changes, self._profiles.looked_up)
        written = [
            change
            for change, outcome in zip(changes, outcomes, strict=True)
            if self._tags.apart and change.tags and outcome.status is OutcomeStatus.APPLIED
        ]
        if not written:
            return outcomes
        there = self._profiles.of(written)
        ids: dict[int, str] = {}
        left: dict[int, Outcome] = {}
        for change in written:
            contact = there.get(change.address.lower())
            if contact is not None and contact.state in LEFT and change.operation is Operation.UPDATE:
                left[change.contact_key] = rejected("left", seen=contact)
            elif contact is not None:
                ids[change.contact_key] = contact.record_id
        outcomes = [
            left.get(change.contact_key, outcome) for change, outcome in zip(changes, outcomes, strict=True)
        ]
        try:
            return self._carried(changes, outcomes, ids)
        except RefusedRequestError as refused:  # the job is over all the same
            told = refusal(error_of(refused.body))
            return [
                told if change.tags and outcome.status is OutcomeStatus.APPLIED else outcome
                for change, outcome in zip(changes, outcomes, strict=True)
            ]

    def _carried(
        self, changes: Sequence[Change], outcomes: Sequence[Outcome], ids: Mapping[int, str]
    ) -> list[Outcome]:
        """Carry out the tags of those who were written: a flow that begins with a tag finds the fields there."""
        written = {
            change.contact_key: (change, outcome.record_id or ids.get(change.contact_key, ""))
            for change, outcome in zip(changes, outcomes, strict=True)
            if self._tags.apart and change.tags and outcome.status is OutcomeStatus.APPLIED
        }
        there = self._tags.carry([each for each in written.values() if each[1]])
        return [
            _gone(change) if change.contact_key in written.keys() - there else outcome
            for change, outcome in zip(changes, outcomes, strict=True)
        ]

    def _imported(
        self,
        changes: Sequence[Change],
        ids: Mapping[int, str],
        properties: Mapping[int, Mapping[str, Any]],
    ) -> list[Outcome]:
        """Give as many to a job as there is room for."""
        profiles = [update(ids[change.contact_key], properties[change.contact_key]) for change in changes]
        return self._imports.begin(profiles)

    def _patched(self, change: Change, record_id: str, properties: Mapping[str, Any]) -> Outcome:
        patch = self._tags.as_patch(change)
        for name in chain([record_id], self._moved_to(change, record_id)):
            try:
                profile = update(name, properties, patch)
                self._api.send("PATCH", "profile", f"/profiles/{name}", profile)
            except RefusedRequestError as refused:
                if (outcome := refusal(error_of(refused.body))).code != "vanished":
                    return outcome
            else:
                return replace(_APPLIED, record_id=name)
        return _gone(change)

    def _moved_to(self, change: Change, record_id: str) -> Iterator[str]:
        """Give the id that a contact has now: it may have changed with a merge since it was told."""
        contact = self._profiles.find(change.address)
        if contact is not None and contact.record_id != record_id:
            yield contact.record_id


def _gone(change: Change) -> Outcome:
    """Say what a profile that is nowhere is to a change."""
    return _UNCHANGED if change.operation is Operation.UNTAG else rejected("vanished")
