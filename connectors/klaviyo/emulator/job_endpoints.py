"""The job endpoints of the emulated Klaviyo: importing 10,000 profiles at a time, suppressing and unsuppressing 100.

Settled: the sizes, the states, and that import errors point at the profile and give it back. Unsettled, and at the worst:
the profiles of an import are taken in no particular order; its `patch_properties` are dropped without a word; one that is
larger than it may be refuses the whole request. The job moves on when it is looked at, see `jobs.py`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...emulator import Answer, Call, Handler
from .account import Account, refused_profile
from .answers import chosen, document, invalid, missing, own_link, related, resource, stamp, stamp_or_none
from .consent import Consent
from .jobs import Job
from .pages import after, numbered, page
from .profile_endpoints import BYTES, patch_of, refuse_include
from .profile_shapes import profile_shown
from .profiles import ProfileError, checked

_IMPORT = "profile-bulk-import-job"
_IMPORTED = "/api/profile-bulk-import-jobs"
_ITEMS, _ALL_BYTES, _ADDRESSES = 10_000, 5_000_000, 100


class JobEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("POST", _IMPORTED, self._import),
            ("GET", _IMPORTED + "/{job_id}", self._imported),
            ("GET", _IMPORTED + "/{id}/import-errors", self._errors),
            ("GET", _IMPORTED + "/{id}/profiles", self._profiles),
            *(
                each
                for verb in ("create", "delete")
                for kind in [f"profile-suppression-bulk-{verb}-job"]
                for each in (
                    ("POST", f"/api/{kind}s", partial(self._suppress, kind)),
                    ("GET", f"/api/{kind}s/{{job_id}}", partial(self._suppressed, kind)),
                )
            ),
        ]

    # Importing

    def _import(self, call: Call) -> Answer:
        account = self._account
        if len(call.body) > _ALL_BYTES:
            raise invalid("The maximum allowed payload size is 5MB.", pointer="/data")
        data = account.body_of(call)
        items = data["attributes"]["profiles"]["data"]
        at = "/data/attributes/profiles/data"
        if not 1 <= len(items) <= _ITEMS:
            raise invalid(f"Between 1 and {_ITEMS} profiles are taken at once.", pointer=at)
        for number, item in enumerate(items):
            if len(json.dumps(item, ensure_ascii=False).encode()) > BYTES:
                raise invalid("The maximum allowed size of a profile is 100KB.", pointer=f"{at}/{number}")
            patch_of(item)
        lists = [each["id"] for each in _related(data, "lists")]
        for list_id in lists:
            account.list_of(list_id)
        job = account.jobs.submit(
            _IMPORT,
            items,
            partial(self._import_one, account, at),
            request=call.number,
            now=account.clock.now(),
            related={"lists": lists},
        )
        return self._one(call, job, status=202)

    def _import_one(self, account: Account, at: str, job: Job, number: int) -> bool:
        item = job.items[number]
        patch = {} if account.worst else patch_of(item)
        try:
            profile, _ = account.profiles.upsert(
                item["attributes"], patch, account.write(job.request), name=item.get("id")
            )
        except ProfileError as error:
            job.errors.append(
                {
                    "id": f"{job.id}-{number:05d}",
                    "code": error.code,
                    "title": error.title,
                    "detail": error.detail,
                    "source": {"pointer": f"{at}/{number}{error.pointer}"}
                    if account.settings.pointers
                    else {},
                    "original_payload": item,
                }
            )
            return False
        job.touched[profile.id] = None
        for list_id in job.related["lists"]:
            if (target := account.lists.by_id.get(list_id)) is not None:
                target.add(profile, account.clock.now())
        return True

    def _imported(self, call: Call) -> Answer:
        refuse_include(call)
        return self._looked_at(call, self._job(call.parameters["job_id"], _IMPORT))

    def _errors(self, call: Call) -> Answer:
        job = self._job(call.parameters["id"], _IMPORT)

        def show(error: Mapping[str, Any]) -> dict[str, Any]:
            attributes = {name: value for name, value in error.items() if name != "id"}
            shown = chosen(call, "import-error", attributes)
            return {"type": "import-error", "id": error["id"], "attributes": shown}

        return document(page(call, numbered(job.errors, job.created, after(call)), show, size=20))

    def _profiles(self, call: Call) -> Answer:
        account, job = self._account, self._job(call.parameters["id"], _IMPORT)
        found = [account.profiles.by_id[name] for name in job.touched if name in account.profiles.by_id]
        rows = numbered(found, job.created, after(call))
        return document(page(call, rows, lambda profile: profile_shown(call, profile), size=20))

    # Suppressing

    def _suppress(self, kind: str, call: Call) -> Answer:
        account, data = self._account, self._account.body_of(call)
        if "segment" in (data.get("relationships") or {}):
            raise invalid("The sandbox has no segments.", pointer="/data/relationships/segment")
        items = [each["attributes"]["email"] for each in _given(data)]
        target = data.get("relationships", {}).get("list", {}).get("data")
        if bool(items) == bool(target):
            raise invalid("Give either profiles or a list.", pointer="/data")
        if len(items) > _ADDRESSES:
            raise invalid(f"At most {_ADDRESSES} addresses are taken at once.", pointer="/data")
        for number, address in enumerate(items):
            try:
                checked({"email": address})
            except ProfileError as error:
                raise refused_profile(error, f"/data/attributes/profiles/data/{number}") from None
        if target:
            on_it = [name for _, name in account.list_of(target["id"]).members.walk()]
            items = [each for name in on_it if (each := account.profiles.by_id[name].email) is not None]
        job = account.jobs.submit(
            kind,
            items,
            partial(self._suppress_one, account, "create" in kind),
            request=call.number,
            now=account.clock.now(),
            related={"lists": [target["id"]]} if target else {},
        )
        return self._one(call, job, status=202)

    def _suppress_one(self, account: Account, create: bool, job: Job, number: int) -> bool:  # noqa: FBT001 - bound by position
        consent, address, now = Consent(account), job.items[number], account.clock.now()
        if create:
            return consent.suppress(address, now) is not None
        return consent.unsuppress(address, now, request=job.request) is not None

    def _suppressed(self, kind: str, call: Call) -> Answer:
        refuse_include(call)
        return self._looked_at(call, self._job(call.parameters["job_id"], kind))

    # All jobs

    def _job(self, job_id: str, kind: str) -> Job:
        if (job := self._account.jobs.find(job_id, kind, self._account.clock.now())) is None:
            raise missing("job", job_id)
        return job

    def _looked_at(self, call: Call, job: Job) -> Answer:
        """Show a job, and move it on: no test needs to wait."""
        account, settings = self._account, self._account.settings
        answer = self._one(call, job)
        now = account.clock.now()
        account.jobs.look(job, now, seconds=settings.job_seconds, cancel=settings.cancel_jobs)
        return answer

    def _one(self, call: Call, job: Job, *, status: int = 200) -> Answer:
        attributes: dict[str, Any] = {
            "status": job.state,
            "created_at": stamp(job.created),
            "total_count": len(job.items),
            "completed_count": job.done,
            "completed_at": stamp_or_none(job.completed),
        }
        if job.kind == _IMPORT:
            started = None if job.state == "queued" else stamp(job.moved)
            attributes |= {
                "failed_count": job.passed_over,
                "expires_at": stamp(job.expires),
                "started_at": started,
            }
        else:
            attributes["skipped_count"] = job.passed_over
        lists = [{"type": "list", "id": each} for each in job.related.get("lists", ())]
        shown = resource(
            call,
            job.kind,
            job.id,
            f"{job.kind}s",
            attributes=chosen(call, job.kind, attributes),
            relationships=related(call, f"{job.kind}s/{job.id}", {"lists": lists}),
        )
        return document({"data": shown, "links": own_link(call)}, status)


def _related(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data.get("relationships", {}).get(name, {}).get("data", [])
    return found


def _given(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (data["attributes"].get("profiles") or {}).get("data", [])
    return found
