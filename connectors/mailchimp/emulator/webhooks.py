"""The webhooks of the emulated Mailchimp: their endpoints, which changes of a member they tell of, in which form, how signed.

How a delivery travels, and goes wrong, is the sender's; that something happened to a member is the audience's to say.
The time in a signature and in `fired_at` is the emulator's clock's: a receiver with a clock of its own takes only what
an emulator sends whose clock runs.

Settled by sources: one event per request, form-encoded; a GET that must be answered 200 before a hook is made; the
secret shown once; a write that changes nothing sends nothing; an address change comes with a profile update beside it
(vendor's pages and agent skill of 2026, and the older "About webhooks"); two hooks of one audience cannot differ in
their query alone (mailchimp-client-lib-codegen#11). Unsettled or told in two ways, and so decided here:

* a complaint: `unsubscribe` with the reason abuse, or at the worst `cleaned` with it, which looks like a bounce;
* `data[action]` of an unsubscription, documented, but missing for some (mc-magento#169): at the worst missing;
* archiving and erasing: an unsubscription with the action delete, or at the worst silence;
* flags that a new hook leaves out: on, or at the worst off, so that events never come;
* a member made as unsubscribed, and one who becomes transactional, pending or archived: silence;
* a profile update of somebody who left is told like any other: it says nothing of consent;
* a bounce counts as the source user, as everything does that people do by themselves; nobody acts as admin here;
* `data[id]` is what the API calls `unique_email_id`; each attempt is signed anew; a hook that fails is not switched off.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests

from ...emulator import Answer, Call, Handler
from ...webhook_sender import WebhookSender
from .account import Account
from .answers import invalid, missing, page, projected
from .audience import Audience, Happening, Member, Source

_HOOKS = "/3.0/lists/{list_id}/webhooks"
_HOOK = _HOOKS + "/{webhook_id}"
_EVENTS = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
_SOURCES = ("user", "admin", "api")
_TIMEOUT = 10  # real seconds, of the GET that checks a URL; the emulator answers nobody else meanwhile
_VALIDATOR = "MailChimp.com WebHook Validator"
_HEADERS = {"content-type": "application/x-www-form-urlencoded", "user-agent": "MailChimp.com"}
_CAMPAIGN = "5a9d0c1e7f"  # the one whose mail people answer by leaving; campaigns are not emulated

Fields = dict[str, Any]


@dataclass(slots=True)
class Webhook:
    """One hook of one audience. Without a secret it is unsigned, as hooks made before 2026 are."""

    id: str
    url: str
    events: dict[str, bool]
    sources: dict[str, bool]
    secret: str | None

    def proof(self, body: bytes, at: datetime) -> Mapping[str, str]:
        """Give the header that signs a body at an instant."""
        if self.secret is None:
            return {}
        stamp = int(at.timestamp())
        digest = hmac.new(self.secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        return {"x-mailchimp-signature": f"t={stamp},v1={digest}"}


class WebhookEndpoints:
    """Handlers over one account, and its hooks by audience."""

    def __init__(self, account: Callable[[], Account], sender: WebhookSender) -> None:
        self._current = account
        self._sender = sender
        self.clear()

    @property
    def _account(self) -> Account:
        return self._current()

    def clear(self) -> None:
        """Forget all hooks, with the account that they were made for."""
        self._hooks: dict[str, dict[str, Webhook]] = {}

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("GET", _HOOKS, self._listing),
            ("POST", _HOOKS, self._create),
            ("GET", _HOOK, self._read),
            ("PATCH", _HOOK, self._change),
            ("DELETE", _HOOK, self._drop),
        ]

    def _listing(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        hooks = list(self._hooks.get(audience.id, {}).values())
        found = page(call, "webhooks", hooks, lambda hook: _shown(audience, hook))
        return projected(call, {**found, "list_id": audience.id})

    def _create(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        body, permissive = account.json_of(call), account.settings.permissive
        hooks = self._hooks.setdefault(audience.id, {})
        url = body.get("url", "")
        _check_url(call, url, hooks.values())
        hook = Webhook(
            id=hashlib.sha256(f"{audience.id}:{call.number}".encode()).hexdigest()[:10],
            url=url,
            events={name: body.get("events", {}).get(name, permissive) for name in _EVENTS},
            sources={name: body.get("sources", {}).get(name, permissive) for name in _SOURCES},
            secret=secrets.token_hex(32) if account.settings.sign_webhooks else None,
        )
        hooks[hook.id] = hook
        audience.listener = lambda happening: self._hear(audience, happening)
        once = {} if hook.secret is None else {"signing_secret": hook.secret}
        return Answer(body={**_shown(audience, hook), **once})

    def _read(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        return projected(call, _shown(audience, self._hook_of(call)))

    def _change(self, call: Call) -> Answer:
        audience, hook = self._account.audience_of(call), self._hook_of(call)
        body = self._account.json_of(call)
        if "url" in body:
            others = [each for each in self._hooks[audience.id].values() if each is not hook]
            _check_url(call, body["url"], others)
            hook.url = body["url"]
        for flags, given in ((hook.events, body.get("events", {})), (hook.sources, body.get("sources", {}))):
            flags.update({name: value for name, value in given.items() if name in flags})
        return Answer(body=_shown(audience, hook))

    def _drop(self, call: Call) -> Answer:
        audience, hook = self._account.audience_of(call), self._hook_of(call)
        del self._hooks[audience.id][hook.id]  # what is on its way to it still arrives
        return Answer(status=204)

    def _hook_of(self, call: Call) -> Webhook:
        audience = self._account.audience_of(call)
        hook = self._hooks.get(audience.id, {}).get(call.parameters["webhook_id"])
        if hook is None:
            raise missing(call)
        return hook

    def _hear(self, audience: Audience, happening: Happening) -> None:
        """Tell every hook that wants to know."""
        fired_at = self._account.clock.now().astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        for kind, fields in _told(audience, happening, permissive=self._account.settings.permissive):
            form = [("type", kind), ("fired_at", fired_at), *_flat("data", fields)]
            body = urlencode(form).encode()
            for hook in self._hooks[audience.id].values():
                if hook.events[kind] and hook.sources[happening.source]:
                    self._sender.post(hook.url, body, _HEADERS, hook.proof)


def _shown(audience: Audience, hook: Webhook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "url": hook.url,
        "events": dict(hook.events),
        "sources": dict(hook.sources),
        "list_id": audience.id,
        "signing_enabled": hook.secret is not None,
    }


def _check_url(call: Call, url: str, others: Iterable[Webhook]) -> None:
    """Refuse a URL that does not answer a GET with 200, and one that differs from another hook's in its query alone."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise invalid(call, "url", "Please provide a valid URL")
    if any(url.partition("?")[0] == other.url.partition("?")[0] for other in others):
        raise invalid(call, "url", "Another webhook of this audience has this URL")
    with requests.Session() as session:
        session.trust_env = False
        try:
            headers = {"user-agent": _VALIDATOR, "connection": "close"}
            with session.get(url, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as answer:
                status = answer.status_code
        except requests.RequestException:
            status = 0
    if status != 200:
        raise invalid(call, "url", f"We couldn't verify the URL is working. HTTP Code: {status}")


def _told(audience: Audience, happening: Happening, *, permissive: bool) -> Iterator[tuple[str, Fields]]:
    """Give the events that a change makes, with their data."""
    before, after = happening.before, happening.after
    if after is None or after.status == "archived":
        if permissive and before is not None and before.status == "subscribed":
            yield "unsubscribe", {"action": "delete", "reason": "manual", **_profile(audience, before)}
        return
    was = before.status if before is not None else None
    if after.status == "subscribed" and was != "subscribed":
        yield "subscribe", _signed_up(audience, after)
    elif was is not None and after.status != was:
        yield from _departure(audience, after, happening.source, permissive=permissive)
    if before is None or was == "archived":
        return
    if after.address != before.address:
        yield (
            "upemail",
            {
                "list_id": audience.id,
                "new_id": _email_id(after),
                "new_email": after.address,
                "old_email": before.address,
            },
        )
    if _portrait(after) != _portrait(before):
        yield "profile", _signed_up(audience, after)


def _departure(
    audience: Audience, member: Member, source: Source, *, permissive: bool
) -> Iterator[tuple[str, Fields]]:
    """Give the event of somebody who has just been unsubscribed or cleaned, if that is what happened."""
    complained = source == "user" and member.refused == "complain"
    campaign = {"campaign_id": _CAMPAIGN} if source == "user" else {}
    if member.status == "cleaned" or (complained and not permissive):
        reason = "abuse" if complained else "hard"
        yield "cleaned", {"list_id": audience.id, "reason": reason, "email": member.address, **campaign}
    elif member.status == "unsubscribed":
        action = {"action": "unsub"} if permissive else {}
        reason = "abuse" if complained else "manual"
        yield "unsubscribe", {**action, "reason": reason, **_profile(audience, member), **campaign}


def _portrait(member: Member) -> tuple[Any, ...]:
    """Give what a profile update tells of; tags are not in it."""
    return (
        member.address,
        member.merge_fields,
        member.email_type,
        member.language,
        member.marketing_permissions,
    )


def _profile(audience: Audience, member: Member) -> Fields:
    values = {tag: member.merge_fields.get(tag, "") for tag in audience.fields}
    return {
        "id": _email_id(member),
        "list_id": audience.id,
        "email": member.address,
        "email_type": member.email_type,
        "ip_opt": member.ip_opt,
        "web_id": member.web_id,
        "merges": {"EMAIL": member.address, **values},
    }


def _signed_up(audience: Audience, member: Member) -> Fields:
    return {**_profile(audience, member), "ip_signup": member.ip_signup}


def _email_id(member: Member) -> str:
    return member.contact_id[:10]


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Write nested data as a form does: data[merges][FNAME]."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}[{key}]", inner)
    else:
        yield name, str(value)
