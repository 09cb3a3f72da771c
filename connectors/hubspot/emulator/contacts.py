"""The contact endpoints of the emulated HubSpot, one record at a time: list, read, write, archive, merge, erase.

What a write does to a record is in `records.py`, batches in `batches.py`, search in `search.py`.
"""

from collections.abc import Callable, Sequence

from ...emulator import Answer, Call
from .account import WRITE_ERRORS, Account, asked, properties_in, refused, shown, written
from .answers import answered, body_of, flag, invalid, paged, text_in, wanted, whole
from .paths import CONTACTS, Endpoint, under
from .records import Contact, number_of

PAGE = 100


class ContactEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[Endpoint]:
        """Give method, path template and handler of each, the paths of single records last."""
        one = "/{contact_id}"
        return [
            *under(CONTACTS, "GET", "", self._listing),
            *under(CONTACTS, "POST", "", self._create),
            *under(CONTACTS, "POST", "/merge", self._merge),
            *under(CONTACTS, "POST", "/gdpr-delete", self._erase),
            *under(CONTACTS, "GET", one, self._read),
            *under(CONTACTS, "PATCH", one, self._update),
            *under(CONTACTS, "DELETE", one, self._archive),
        ]

    def _listing(self, call: Call) -> Answer:
        limit = whole(call, call.query.get("limit", "10"), "limit", least=1, most=PAGE)
        after = whole(call, call.query.get("after") or "0", "after", least=0, most=10**18)
        properties = wanted(call, "properties")
        found, more = self._account.records.page(after, limit, archived=flag(call, "archived"))
        results = [shown(contact, properties) for contact in found]
        return answered(paged(results, None if more is None else str(more), call))

    def _read(self, call: Call) -> Answer:
        return answered(asked(call, self._account.record_of(call, archived=flag(call, "archived"))))

    def _create(self, call: Call) -> Answer:
        records = self._account.records
        given = properties_in(call, body_of(call))
        try:
            contact = records.create(records.check(given, None), request=call.number)
        except WRITE_ERRORS as wrong:
            raise refused(call, wrong) from None
        return answered(written(contact, given), 201)

    def _update(self, call: Call) -> Answer:
        records, contact = self._account.records, self._account.record_of(call)
        given = properties_in(call, body_of(call))
        try:
            records.update(contact, records.check(given, contact), request=call.number)
        except WRITE_ERRORS as wrong:
            raise refused(call, wrong) from None
        return answered(written(contact, given))

    def _archive(self, call: Call) -> Answer:
        self._account.records.archive(self._account.record_of(call))
        return Answer(status=204)

    def _merge(self, call: Call) -> Answer:
        body, account = body_of(call), self._account
        primary = account.record(call, text_in(call, body, "primaryObjectId"), None)
        other = account.record(call, text_in(call, body, "objectIdToMerge"), None)
        if primary is other:
            raise invalid(call, "A contact cannot be merged with itself")
        return answered(shown(account.records.merge(primary, other, request=call.number), ()))

    def _erase(self, call: Call) -> Answer:
        body, records = body_of(call), self._account.records
        text = text_in(call, body, "objectId")
        contact: Contact | None
        if body.get("idProperty") == "email":
            records.erase(text, records.find("email", text), "INTEGRATION")
            return Answer(status=204)
        contact = self._account.records.archived.get(number_of(text)) or self._account.record(
            call, text, None
        )
        records.erase("", contact, "INTEGRATION")
        return Answer(status=204)
