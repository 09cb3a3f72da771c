"""The contact batches of the emulated HubSpot: 100 records a call, and which items get which answer.

Settled by sources: a create whose items all carry an `objectWriteTraceId` of their own fails item by item, any other
fails as a whole and names the first problem alone; an update takes record ids, refuses an `idProperty`, and passes over
an id that is none without a word; an upsert by address is not partial; 207 says that some failed. Unsettled, and worst in
the adversarial mode:

* results come in the reverse order; permissive: as asked;
* an upsert by a unique property whose address another record has fails the whole batch; permissive: its item;
* an upsert by address clears every property that the item leaves out; permissive: leaves them;
* ids that are not there share one error, which names the ids and no trace; permissive: each has its own;
* an item's error names the trace id alone, and nothing where the item had none; permissive: the id too.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...emulator import Answer, Call
from .account import WRITE_ERRORS, Account, WriteError, properties_in, refused, shown, told_of, written
from .answers import Json, batch, body_of, flag, inputs_of, invalid, item_error, text_in, texts_in
from .paths import CONTACTS, Endpoint, under
from .records import ConflictError, Contact, Records, number_of

_TRACE = "objectWriteTraceId"


class BatchEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[Endpoint]:
        """Give method, path template and handler of each."""
        acts = {
            "read": self._read,
            "create": self._create,
            "update": self._update,
            "upsert": self._upsert,
            "archive": self._archive,
        }
        return [each for name, act in acts.items() for each in under(CONTACTS, "POST", f"/batch/{name}", act)]

    def _read(self, call: Call) -> Answer:
        body, account = body_of(call), self._account
        name = text_in(call, body, "idProperty", fallback="hs_object_id")
        properties = texts_in(call, body, "properties")
        texts = [text_in(call, item, "id") for item in inputs_of(call, body)]
        if name != "hs_object_id" and not account.records.identifies(name):
            raise invalid(call, f"{name} is not a unique property of contacts")
        found: dict[int, Contact] = {}
        absent: list[str] = []
        for text in texts:
            contact = _kept(account.records, name, text, archived=flag(call, "archived"))
            if contact is None:
                absent.append(text)
            else:
                found[contact.id] = contact
        results = [shown(contact, properties) for contact in found.values()]
        return self._answer(results, _absences(absent, {}, permissive=account.settings.permissive))

    def _create(self, call: Call) -> Answer:
        records, items = self._account.records, inputs_of(call, body_of(call))
        given = [properties_in(call, item) for item in items]
        traces = [_trace(call, item) for item in items]
        _refuse_twins(call, records, given)
        each_alone = None not in traces and len(set(traces)) == len(traces)
        good: list[tuple[Mapping[str, Any], dict[str, str], str | None]] = []
        errors: list[Json] = []
        for properties, trace in zip(given, traces, strict=True):
            try:
                good.append((properties, records.check(properties, None), trace))
            except WRITE_ERRORS as wrong:
                if not each_alone:
                    raise refused(call, wrong) from None
                errors.append(_told(wrong, trace, None))
        results = [
            _traced(written(records.create(values, request=call.number), properties), trace)
            for properties, values, trace in good
        ]
        return self._answer(results, errors, good=201)

    def _update(self, call: Call) -> Answer:
        records, permissive = self._account.records, self._account.settings.permissive
        items = inputs_of(call, body_of(call))
        if any(item.get("idProperty") is not None for item in items):
            raise invalid(call, "Unable to perform update/upsert by non-unique 0-1 property")
        _refuse_repeated(call, [("hs_object_id", text_in(call, item, "id")) for item in items])
        given = [properties_in(call, item) for item in items]
        _refuse_twins(call, records, given)
        results: list[Json] = []
        errors: list[Json] = []
        absent: dict[str, str | None] = {}
        for item, properties in zip(items, given, strict=True):
            trace = _trace(call, item)
            contact = records.find("hs_object_id", item["id"])
            if contact is not None:
                try:
                    records.update(contact, records.check(properties, contact), request=call.number)
                except WRITE_ERRORS as wrong:
                    errors.append(_told(wrong, trace, item["id"] if permissive else None))
                else:
                    results.append(_traced(written(contact, properties), trace))
            elif number_of(item["id"]):
                absent[item["id"]] = trace
        return self._answer(results, [*errors, *_absences(absent, absent, permissive=permissive)])

    def _upsert(self, call: Call) -> Answer:
        account, items = self._account, inputs_of(call, body_of(call))
        records = account.records
        keys = [
            (text_in(call, item, "idProperty", fallback="hs_object_id"), text_in(call, item, "id"))
            for item in items
        ]
        if any(not records.identifies(name) for name, _ in keys):
            raise invalid(call, "Unable to perform update/upsert by non-unique 0-1 property")
        given = [
            {key: text, **properties_in(call, item)} for (key, text), item in zip(keys, items, strict=True)
        ]
        _refuse_repeated(call, keys)
        _refuse_twins(call, records, given)
        upsert = _Upsert(account, call)
        if not account.settings.permissive:
            upsert.refuse_conflicts(keys, given)
        for key, properties, item in zip(keys, given, items, strict=True):
            upsert.take(key, properties, _trace(call, item))
        return self._answer(upsert.results, upsert.errors)

    def _archive(self, call: Call) -> Answer:
        records = self._account.records
        for item in inputs_of(call, body_of(call)):
            contact = records.find("hs_object_id", text_in(call, item, "id"))
            if contact is not None:
                records.archive(contact)
        return Answer(status=204)

    def _answer(self, results: list[Json], errors: Sequence[Json], *, good: int = 200) -> Answer:
        shown = results if self._account.settings.permissive else results[::-1]
        return batch(shown, self._account.clock.now(), errors=errors, good=good)


class _Upsert:
    """One upsert: takes item by item, keeps what the answer will show."""

    def __init__(self, account: Account, call: Call) -> None:
        self._records = account.records
        self._definitions = account.definitions
        self._permissive = account.settings.permissive
        self._call = call
        self.results: list[Json] = []
        self.errors: list[Json] = []

    def refuse_conflicts(self, keys: Sequence[tuple[str, str]], given: Sequence[Mapping[str, Any]]) -> None:
        """Refuse the whole batch for the first value that another record has."""
        for (name, text), properties in zip(keys, given, strict=True):
            try:
                self._records.check(properties, self._records.find(name, text))
            except ConflictError as wrong:
                raise refused(self._call, wrong) from None
            except WRITE_ERRORS:
                continue  # fails alone

    def take(self, key: tuple[str, str], properties: Mapping[str, Any], trace: str | None) -> None:
        """Carry out one item."""
        name, text = key
        contact = self._records.find(name, text)
        try:
            values = self._records.check(properties, contact)
        except WRITE_ERRORS as wrong:
            self.errors.append(_told(wrong, trace, text if self._permissive else None))
            return
        new = contact is None
        if contact is None:
            contact = self._records.create(values, request=self._call.number)
        else:
            if name == "email" and not self._permissive:
                values = {**self._left_out(contact), **values}
            self._records.update(contact, values, request=self._call.number)
        self.results.append(_traced({**written(contact, properties), "new": new}, trace))

    def _left_out(self, contact: Contact) -> dict[str, str]:
        """Clear what an item that is not partial does not name."""
        cleared = contact.properties.keys() & self._definitions.writable
        return dict.fromkeys(cleared - {"email"}, "")


def _kept(records: Records, name: str, text: str, *, archived: bool) -> Contact | None:
    if not archived:
        return records.find(name, text)
    return records.archived.get(number_of(text)) if name == "hs_object_id" else None


def _trace(call: Call, item: Mapping[str, Any]) -> str | None:
    return text_in(call, item, _TRACE) if item.get(_TRACE) is not None else None


def _traced(result: Json, trace: str | None) -> Json:
    return result if trace is None else {**result, _TRACE: trace}


def _told(wrong: WriteError, trace: str | None, number: str | None) -> Json:
    _, category, message, faults = told_of(wrong)
    context = {} if trace is None else {_TRACE: [trace]}
    if number is not None:
        context["ids"] = [number]
    return item_error(category, message, context, [fault.as_json() for fault in faults])


def _absences(texts: Iterable[str], traces: Mapping[str, str | None], *, permissive: bool) -> list[Json]:
    message = (
        "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid."
    )
    missed = list(dict.fromkeys(texts))
    if not permissive:
        return [item_error("OBJECT_NOT_FOUND", message, {"ids": missed})] if missed else []
    errors = []
    for text in missed:
        trace = traces.get(text)
        context = {"ids": [text]} if trace is None else {"ids": [text], _TRACE: [trace]}
        errors.append(item_error("OBJECT_NOT_FOUND", message, context))
    return errors


def _refuse_repeated(call: Call, keys: Iterable[tuple[str, str]]) -> None:
    """Refuse a batch that names one record twice."""
    counted = Counter((name, text.lower() if name == "email" else text) for name, text in keys)
    if repeated := [text for (_, text), times in counted.items() if times > 1]:
        raise invalid(call, f"Duplicate IDs found in batch input: [{', '.join(repeated)}]")


def _refuse_twins(call: Call, records: Records, given: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a batch in which two items give the same value to what only one record can have."""
    seen: set[tuple[str, str]] = set()
    for properties in given:
        for name in ("email", *records.by_value):
            value = properties.get(name)
            if not isinstance(value, str) or not value:
                continue
            key = (name, value.lower() if name == "email" else value)
            if key in seen:
                holder = records.find(name, value)
                raise refused(call, ConflictError(name, 0 if holder is None else holder.id))
            seen.add(key)
