"""Moving a profile to a new address. What its person refused stays with the old one, so that it is looked for here.

Who is made and who is opted out is not decided here.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from ...core.consent import ConsentState
from ...core.model import Change, FieldType, Outcome, OutcomeStatus
from ..transport import RefusedRequestError
from .api import Api, error_of
from .events import left_since
from .payload import LEFT, is_sendable, properties_of, unsubscription_job, update
from .profiles import Profiles
from .refusals import refusal, rejected
from .tags import Tags

_NOT_SHOWN: Final = Outcome(
    status=OutcomeStatus.UNKNOWN, code="not_read_back", reason="Klaviyo does not show the move yet."
)


class Moves:
    """Gives profiles of one account new addresses."""

    def __init__(self, api: Api, profiles: Profiles, tags: Tags) -> None:
        self._api = api
        self._profiles = profiles
        self._tags = tags

    def write(self, change: Change, types: Mapping[str, FieldType]) -> Outcome:
        """Move one contact, unless it left, and write whatever else changed."""
        if change.previous_address is None:
            raise ValueError("a readdress without a previous address")
        properties = {**properties_of(change, types), **self._tags.as_value(change)}
        if not is_sendable(properties):
            return rejected("invalid_field")
        before, after = self._profiles.read([change.previous_address, change.address])
        # An attempt whose answer was lost, a moment ago or in an earlier run, may have moved it.
        there = before or after
        if there is None:
            return rejected("vanished")
        if there.state in LEFT:
            return rejected("left", seen=replace(there, address=change.previous_address))
        profile = update(there.record_id, properties, self._tags.as_patch(change))
        profile["attributes"]["email"] = change.address
        try:
            self._api.send("PATCH", "profile", f"/profiles/{there.record_id}", profile)
        except RefusedRequestError as refused:
            return refusal(error_of(refused.body))
        # Who was moved by an earlier attempt may have left before it, or before it could ask.
        since = there.opted_in_at if before is None else before.changed_at
        return self._moved(change, change.previous_address, there.record_id, since)

    def _moved(
        self, change: Change, previous_address: str, record_id: str, since: datetime | None
    ) -> Outcome:
        """Say what a move came to, and unsubscribe whoever left since an instant, None for ever."""
        moved = self._profiles.find(change.address)
        if moved is None:
            return _NOT_SHOWN
        if left_since(self._api, record_id, since):
            # They left while they moved, and what they said stays with the address behind them.
            self._api.unsubscribe(unsubscription_job([change.address]))
            left = replace(moved, address=previous_address, state=ConsentState.UNSUBSCRIBED)
            return rejected("left", seen=left)
        applied = Outcome(status=OutcomeStatus.APPLIED, seen=moved, record_id=moved.record_id)
        return applied if self._tags.carry([(change, moved.record_id)]) else rejected("vanished")
