"""The local Mailchimp: a stateful emulator of the Marketing API 3.0, as strict and as unkind as the real one is known to be.

Here are the account's door (keys, limits, forced errors), the root endpoints, asynchronous batches and what people do
by themselves. Rules about members are in `audience.py`, shapes in `answers.py`, webhooks in `webhooks.py`.

An emulator that is kinder than the real thing is a bug. What no source settles has an adversarial setting, the default,
that takes the worst; the permissive one refuses no raise of consent at all. Not emulated: the making of campaigns, and so
their webhooks, batch webhooks, interests, saved segments, e-commerce.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from ....core.consent import ConsentState
from ....core.model import RateLimit
from ...emulation import serve
from ...emulator import Answer, Call, Emulator, Handler, Pace, Person, PersonAct, Raise, RefusedError
from ...webhook_sender import SenderSettings
from .account import Account, Plan, Settings, Throttle
from .answers import member_alone, missing, page, problem, projected
from .audience import Audience, Member
from .jobs import MAXIMUM_PENDING, Job, JobOperation, Jobs
from .lists import ListEndpoints
from .members import MemberEndpoints
from .reports import ReportEndpoints
from .webhooks import WebhookEndpoints

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_RESULTS = "/batch-results/{token}"

# https://mailchimp.com/developer/marketing/docs/errors/ : names for the header X-Trigger-Error, and what they answer.
_ERRORS: Mapping[str, tuple[int, str, str]] = {
    "BadRequest": (400, "Bad Request", "Your request could not be processed."),
    "InvalidResource": (400, "Invalid Resource", "The resource submitted could not be validated."),
    "InvalidAction": (400, "Invalid Action", "The action requested was not valid for this resource."),
    "JSONParseError": (400, "JSON Parse Exception", "We encountered an unspecified JSON parsing error."),
    "APIKeyMissing": (401, "API Key Missing", "Your request did not include an API key."),
    "APIKeyInvalid": (
        401,
        "API Key Invalid",
        "Your API key may be invalid, or you've attempted to access the wrong datacenter.",
    ),
    "Forbidden": (403, "Forbidden", "You are not permitted to access this resource."),
    "UserDisabled": (403, "User Disabled", "This account has been deactivated."),
    "ResourceNotFound": (404, "Resource Not Found", "The requested resource could not be found."),
    "MethodNotAllowed": (405, "Method Not Allowed", "The requested method and resource are not compatible."),
    "ResourceNestingTooDeep": (
        414,
        "Resource Nesting Too Deep",
        "The sub-resource requested is nested too deeply.",
    ),
    "TooManyRequests": (
        429,
        "TooManyRequests",
        "You have exceeded the limit of 10 simultaneous connections.",
    ),
    "InternalServerError": (500, "InternalServerError", "An unexpected internal error has occurred."),
    "ServiceUnavailable": (503, "Service Unavailable", "The service is currently unavailable."),
}
_BY_STATUS: Mapping[int, str] = {
    401: "APIKeyInvalid",
    404: "ResourceNotFound",
    405: "MethodNotAllowed",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}


_STATES: Mapping[str, ConsentState] = {
    "subscribed": ConsentState.SUBSCRIBED,
    "pending": ConsentState.PENDING,
    "cleaned": ConsentState.SUPPRESSED,
}


class MailchimpEmulator(Emulator):
    """One Mailchimp account with one user and one audience."""

    name = "mailchimp"
    sending = SenderSettings(timeout=10, attempts=7, retry_wait=70)  # 10 s, and growing waits over 75 minutes

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self._first = settings or Settings()
        self._refusals = 0
        self._webhooks = WebhookEndpoints(lambda: self.account, self.sender)
        self._reports = ReportEndpoints(lambda: self.account)
        self.clear()

    def clear(self) -> None:
        """Put account and settings back to how they began."""
        self.account = Account(self._first, self.clock)
        self._jobs = Jobs()
        self._webhooks.clear()
        self._reports.clear()
        self._refusals = 0

    @property
    def audience(self) -> Audience:
        """The audience that the account started with; take `lock` when requests may run at the same time."""
        return next(iter(self.account.audiences.values()))

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give every endpoint."""
        members, lists = MemberEndpoints(lambda: self.account), ListEndpoints(lambda: self.account)
        return [
            ("GET", "/3.0", self._root),
            ("GET", "/3.0/ping", self._ping),
            ("GET", "/3.0/batches", self._batches),
            ("POST", "/3.0/batches", self._submit),
            ("GET", "/3.0/batches/{batch_id}", self._batch),
            ("DELETE", "/3.0/batches/{batch_id}", self._drop_batch),
            ("GET", _RESULTS, self._results),
            *lists.endpoints(),
            *members.endpoints(),
            *self._webhooks.endpoints(),
            *self._reports.endpoints(),
        ]

    # The door

    @property
    def pace(self) -> Pace:
        """Ten simultaneous connections per user, whatever the key."""
        settings = self.account.settings
        limited = settings.rate_count > 0 and settings.rate_seconds > 0
        return Pace(
            concurrency=settings.connections,
            rate=RateLimit(count=settings.rate_count, seconds=settings.rate_seconds) if limited else None,
            latency=settings.latency,
        )

    def admit(self, call: Call) -> None:
        """Let in a call with the key, as Basic password of any user or as Bearer token."""
        if call.within is not None or call.template == _RESULTS:
            return  # a job's own call, or a pre-signed address
        if (forced := _ERRORS.get(call.headers.get("x-trigger-error", ""))) is not None:
            raise RefusedError(problem(*forced, number=call.number))
        if (given := _key(call.headers.get("authorization", ""))) is None:
            raise RefusedError(problem(*_ERRORS["APIKeyMissing"], number=call.number))
        if given != self.account.settings.key:
            raise RefusedError(problem(*_ERRORS["APIKeyInvalid"], number=call.number))
        self._jobs.tick(self.clock.now(), self._run)

    def refusal(self, status: int) -> Answer:
        """Refuse with a problem, except that throttling may come without a body, or as a 403."""
        if status == 429:
            self._refusals += 1
            turns = (Throttle.PROBLEM, Throttle.BODILESS, Throttle.FORBIDDEN)
            shape = self.account.settings.throttle
            if shape is Throttle.MIXED:
                shape = turns[self._refusals % 3]
            if shape is not Throttle.PROBLEM:
                return Answer(status=403 if shape is Throttle.FORBIDDEN else 429)
        return problem(*_ERRORS[_BY_STATUS[status]])

    # Root

    def _ping(self, _: Call) -> Answer:
        return Answer(body={"health_status": "Everything's Chimpy!"})

    def _root(self, call: Call) -> Answer:
        audiences = self.account.audiences.values()
        subscribers = sum(
            1 for each in audiences for member in each.members.values() if member.status == "subscribed"
        )
        account = {
            "account_id": "sandbox",
            "login_id": "sandbox",
            "account_name": "Segue sandbox",
            "email": "shop@sandbox.invalid",
            "first_name": "Sandbox",
            "last_name": "Owner",
            "username": "sandbox",
            "role": "owner",
            "pricing_plan_type": "monthly",
            "pro_enabled": self.account.settings.plan is Plan.PREMIUM,
            "total_subscribers": subscribers,
        }
        return projected(call, account)

    # Asynchronous batches

    def _submit(self, call: Call) -> Answer:
        body, now = self.account.json_of(call), self.clock.now()
        if self._jobs.pending >= MAXIMUM_PENDING:
            detail = f"You may have at most {MAXIMUM_PENDING} pending batches."
            return problem(429, "TooManyRequests", detail, number=call.number)
        operations = []
        for raw in self.account.list_in(call, body, "operations", maximum=1_000_000):
            if (
                not isinstance(raw, dict)
                or raw.get("method") not in _METHODS
                or not isinstance(raw.get("path"), str)
            ):
                return problem(
                    400, "Bad Request", "Every operation needs a method and a path.", number=call.number
                )
            if not isinstance(raw.get("body", ""), str):
                return problem(
                    400, "Bad Request", "The body of an operation is a JSON string.", number=call.number
                )
            operations.append(
                JobOperation(
                    method=raw["method"],
                    path=raw["path"],
                    operation_id=str(raw.get("operation_id", "")),
                    body=raw.get("body", ""),
                    params={name: str(value) for name, value in (raw.get("params") or {}).items()},
                )
            )
        if not operations:
            return problem(400, "Bad Request", "A batch needs operations.", number=call.number)
        job = self._jobs.submit(operations, number=call.number, base_url=call.base_url, now=now)
        return Answer(body=self._jobs.shown(job, now))

    def _batches(self, call: Call) -> Answer:
        now = self.clock.now()
        return projected(
            call, page(call, "batches", self._jobs.all(), lambda job: self._jobs.shown(job, now))
        )

    def _batch(self, call: Call) -> Answer:
        """Show a batch, which moves on one state each time it is looked at: no test needs to wait."""
        job, now = self._job_of(call), self.clock.now()
        shown = self._jobs.shown(job, now)
        self._jobs.step(job, now, self._run)
        return projected(call, shown)

    def _drop_batch(self, call: Call) -> Answer:
        self._jobs.drop(self._job_of(call))
        return Answer(status=204)

    def _results(self, call: Call) -> Answer:
        token = call.parameters["token"].removesuffix(".tar.gz")
        content = self._jobs.archive(token, self.clock.now())
        if content is None:
            return Answer(
                status=403, body=b"<Error><Code>AccessDenied</Code></Error>", media_type="application/xml"
            )
        return Answer(body=content, media_type="application/gzip")

    def _job_of(self, call: Call) -> Job:
        job = self._jobs.find(call.parameters["batch_id"])
        if job is None:
            raise missing(call)
        return job

    def _run(self, job: Job, operation: JobOperation) -> tuple[int, str]:
        """Carry out one operation of a job; its path is relative to the version. Batches within batches are refused."""
        path = "/" + operation.path.lstrip("/")
        call = Call(
            method=operation.method,
            path="/3.0" + urlsplit(path).path,
            base_url=job.base_url,
            query=operation.params if operation.method == "GET" else {},
            body=operation.body.encode(),
            number=self.traffic.next_number(),
            within=job.number,
        )
        call = self.route(call)
        answer = self.refusal(405) if path.startswith("/batches") else self.handle(call)
        self.record(call, answer)
        return answer.status, answer.encode().decode()

    # Control

    def state(self, *, count: int, offset: int, address: str | None) -> dict[str, Any]:
        """Give audiences with counts, fields, tags, raises of consent, and some members."""
        return {
            "now": self.clock.now().isoformat(),
            "batches_pending": self._jobs.pending,
            "audiences": {
                audience.id: _dump(audience, count=count, offset=offset, address=address)
                for audience in self.account.audiences.values()
            },
        }

    def people(self) -> Sequence[Person]:
        """Give the members of the account's first audience."""
        with self.lock:
            audience = self.audience
            return [_person(audience, member) for member in audience.members.values()]

    @property
    def raises(self) -> Sequence[Raise]:
        """The raises of consent in the account's first audience."""
        return list(self.audience.raises)

    def settings(self) -> dict[str, Any]:
        """Give the settings in force."""
        return self.account.settings.as_json()

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings. The first audience's id is fixed once the account stands."""
        self.account.settings = self.account.settings.changed(changes)

    def act(self, act: PersonAct, *, audience: str = "", address: str) -> None:
        """Let a person act on an audience; "" is the account's first. Raises LookupError for an unknown one."""
        with self.lock:
            where = self.account.audiences[audience] if audience else self.audience
            where.double_optin = self.account.double_optin(where)
            now = self.clock.now()
            if act is PersonAct.SUBSCRIBE:
                where.join(address, now)
                return
            member = where.find(address)
            if member is None:
                raise LookupError("nobody with that address is in the audience")
            match act:
                case PersonAct.UNSUBSCRIBE | PersonAct.BOUNCE | PersonAct.COMPLAIN:
                    where.leave(member, act, now)
                case PersonAct.CONFIRM:
                    where.confirm(member, now)
                case PersonAct.ERASE:
                    where.erase(member, "user")
                case PersonAct.OPEN:
                    self._reports.act(where, member, "open", now)
                case PersonAct.CLICK:
                    self._reports.act(where, member, "click", now)

    def send_campaign(self) -> str:
        """Send a campaign to everyone who is subscribed to the account's first audience; give its id."""
        with self.lock:
            return self._reports.send(self.audience, self.clock.now()).id


def _person(audience: Audience, member: Member) -> Person:
    return Person(
        name=member.contact_id,
        address=member.address,
        state=_STATES.get(member.status, ConsentState.UNSUBSCRIBED),
        fields=dict(member.merge_fields),
        tags=frozenset(audience.segments[each].name for each in member.tags),
        archived=member.status == "archived",
    )


def _dump(audience: Audience, *, count: int, offset: int, address: str | None) -> dict[str, Any]:
    statuses: dict[str, int] = {}
    for member in audience.members.values():
        statuses[member.status] = statuses.get(member.status, 0) + 1
    if address is None:
        chosen = list(audience.members.values())[offset : offset + count]
    else:
        found = audience.find(address)
        chosen = [] if found is None else [found]
    return {
        "name": audience.name,
        "statuses": statuses,
        "forgotten": len(audience.forgotten),
        "fields": {tag: field.type for tag, field in audience.fields.items()},
        "tags": {segment.name: len(segment.members) for segment in audience.segments.values()},
        "raises": [asdict(each) for each in audience.raises],
        "members": [_member(audience, member) for member in chosen],
    }


def _member(audience: Audience, member: Member) -> dict[str, Any]:
    """Give a member with all of its tags and what the API does not show."""
    return {
        **member_alone(audience, member),
        "tags": sorted(audience.segments[number].name for number in member.tags),
        "refused": member.refused,
        "confirmation_mails": member.confirmation_mails,
        "unsubscribed_at": _or_none(member.unsubscribed_at),
    }


def _or_none(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _key(authorization: str) -> str | None:
    """Read the key out of an Authorization header: Basic with any user, or Bearer; None when there is none."""
    scheme, _, rest = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            try:
                return base64.b64decode(rest).decode().partition(":")[2]
            except ValueError:
                return ""
        case _:
            return None


def serve_sandbox(port: int, *, announce: Callable[[str], None] | None = None, **settings: Any) -> None:
    """Run the sandbox on the loopback until it is interrupted; keywords are those of `Settings`, enums by their text.

    `announce` is told the address, version included, once it answers. Raises ConfigError for an unknown setting, a
    wrong value or a taken port.
    """
    emulator = MailchimpEmulator(Settings().changed(settings))
    serve(emulator, port, announce=lambda origin: announce(f"{origin}/3.0") if announce else None)
