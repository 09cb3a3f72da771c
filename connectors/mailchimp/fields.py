"""The merge fields of an audience: which there are, of which types, and making the missing ones of ours.

Nothing here changes or removes a field that exists, and nothing knows about members.
"""

from collections.abc import Iterable
from typing import Any

from ...core.errors import Problem, UnsupportedFeatureError
from ...core.model import FieldSpec, FieldType
from ..transport import RefusedRequestError
from .pages import items
from .payload import FIELD_TYPES, field_request


class MergeFields:
    """Knows the fields from the last time that they were read; `slots` is how many the account's plan holds."""

    def __init__(self, lists: Any, audience: str, *, slots: int) -> None:
        self._lists = lists
        self._audience = audience
        self._slots = slots
        self._known: dict[str, dict[str, Any]] | None = None

    def read(self) -> dict[str, dict[str, Any]]:
        """Read all fields, by tag, as Mailchimp writes them."""
        found = items(
            self._lists.get_list_merge_fields, self._audience, "merge_fields", ("tag", "type", "options")
        )
        self._known = {each["tag"]: each for each in found}
        return self._known

    def known(self) -> dict[str, dict[str, Any]]:
        """Give the fields as last read, by tag."""
        return self.read() if self._known is None else self._known

    def types(self) -> dict[str, FieldType | None]:
        """Give our word for each field's type, None for one that we never write."""
        return {tag: FIELD_TYPES.get(each["type"]) for tag, each in self.known().items()}

    def refuse_lost(self, used: Iterable[str]) -> None:
        """Raise UnsupportedFeatureError when one of these tags is gone: no smaller batch would do then."""
        if lost := set(used) - self.read().keys():
            raise UnsupportedFeatureError(
                f"The audience has no {', '.join(sorted(lost))} any more. The next run makes missing fields again."
            ) from None

    def ensure(self, specs: Iterable[FieldSpec]) -> None:
        """Make the missing ones, or none when one clashes or there is no room for all."""
        wanted = list(specs)
        there = self.read()
        missing = [spec for spec in wanted if spec.tag not in there]
        types = self.types()
        problems = [
            Problem(
                where=f"field {spec.tag}",
                message=f"it is {there[spec.tag]['type']} in the audience and {spec.type.value} in the mapping.",
                next_step="Mailchimp cannot change a field's type: pin another tag in the mapping.",
            )
            for spec in wanted
            if spec.tag in there and types[spec.tag] is not spec.type
        ]
        if missing and len(there) + len(missing) > self._slots:
            problems.append(
                Problem(
                    where="merge fields",
                    message=f"{len(there)} are there, {len(missing)} are to be made, and the plan holds {self._slots}.",
                    next_step="Map fewer fields, remove unused ones in Mailchimp, or say plan: premium if you have it.",
                )
            )
        if problems:
            raise UnsupportedFeatureError.of(problems)
        for spec in missing:
            self._make(spec)
        if missing:
            self.read()

    def _make(self, spec: FieldSpec) -> None:
        try:
            made = self._lists.add_list_merge_field(self._audience, field_request(spec))
        except RefusedRequestError:
            # The answer to an earlier attempt may have been lost after the field was made.
            made = self.read().get(spec.tag)
            if made is None:
                raise
        if made.get("tag") != spec.tag or FIELD_TYPES.get(made.get("type", "")) is not spec.type:
            raise UnsupportedFeatureError(
                f"Mailchimp made another field than {spec.tag} ({spec.type.value}). Look at the audience's fields."
            )
