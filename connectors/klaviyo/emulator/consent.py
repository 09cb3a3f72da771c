"""How the emulated Klaviyo's people come and go: by subscription and suppression through the API, and by themselves.

No HTTP here, and what may be mailed then is in `standing.py`. Unsettled, and at the worst: unsubscribing or suppressing an
address that no profile has does nothing, and says nothing; a profile that waits for its confirmation can be mailed; a
confirmation mail goes out again each time; our own writes make the same events as the person's acts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...emulator import PersonAct
from .account import Account
from .lists import MailingList
from .profiles import Profile, ProfileError
from .standing import BOUNCE, COMPLAINT, SUBSCRIBED, SUPPRESSED, Agreement, Standing

_EVENTS: Mapping[PersonAct, str] = {
    PersonAct.UNSUBSCRIBE: "Unsubscribed from Email Marketing",
    PersonAct.BOUNCE: "Bounced Email",
    PersonAct.COMPLAIN: "Marked Email as Spam",
    PersonAct.SUBSCRIBE: "Subscribed to Email Marketing",
    PersonAct.CONFIRM: "Subscribed to Email Marketing",
    PersonAct.OPEN: "Opened Email",
    PersonAct.CLICK: "Clicked Email",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a request subscribes people; a historical import sends no confirmation mails."""

    request: int
    list_id: str | None
    source: str | None
    historical: bool


class Consent:
    """What happens to the people of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    # By API

    def subscribe(
        self, who: Mapping[str, Any], terms: Terms, consented_at: datetime | None, now: datetime
    ) -> None:
        """Subscribe one profile, making it if need be; or send it a confirmation mail. Nobody to find is no error."""
        account, standings = self._account, self._account.standings
        target = account.lists.by_id.get(terms.list_id or "")
        asks = not terms.historical and ((target.opt_in if target else account.opt_in) == "double_opt_in")
        profile = self._found(who)
        if profile is None and "id" not in who:
            held = asks and not account.worst
            try:
                profile = account.profiles.create(who, account.write(terms.request, held=held))
            except ProfileError:
                return  # its identifiers have come to belong to two profiles since the request was accepted
        if profile is None or profile.standing is None:
            return
        standing = profile.standing
        if asks:
            if account.worst or standing.consent != SUBSCRIBED or not standing.mailable:
                standings.ask(standing, terms.list_id or "", terms.source, terms.request)
        else:
            agreement = Agreement(at=consented_at or now, now=now, source=terms.source, request=terms.request)
            standings.subscribe(standing, agreement, everything=not account.worst)
            if target is not None:
                target.add(profile, now)
            self._echo(profile, _EVENTS[PersonAct.SUBSCRIBE], now)
        account.profiles.touch(profile, now)

    def unsubscribe(self, who: Mapping[str, Any], list_id: str | None, now: datetime) -> None:
        """Unsubscribe one profile from the list if it is on it, else from everything."""
        account = self._account
        if (profile := self._known(who)) is None or profile.standing is None:
            return
        if list_id is not None and list_id in profile.lists:
            account.standings.leave_list(profile.standing, list_id, now)
            account.lists.by_id[list_id].remove(profile)
        else:
            account.standings.unsubscribe(profile.standing, now, how="api")
            self._echo(profile, _EVENTS[PersonAct.UNSUBSCRIBE], now)
        account.profiles.touch(profile, now)

    def suppress(self, address: str, now: datetime) -> Profile | None:
        """Suppress one address by hand; None when nobody has it."""
        profile = self._known({"email": address})
        if profile is None or profile.standing is None:
            return None
        self._account.standings.suppress(profile.standing, SUPPRESSED, now, how="api")
        self._echo(profile, "Manually Suppressed from Email Marketing", now)
        self._account.profiles.touch(profile, now)
        return profile

    def unsuppress(self, address: str, now: datetime, *, request: int) -> Profile | None:
        """Take back a suppression by hand; None when there was none."""
        account = self._account
        profile = self._found({"email": address})
        if profile is None or profile.standing is None:
            return None
        if not account.standings.unsuppress(
            profile.standing, now, request=request, everything=not account.worst
        ):
            return None
        account.profiles.touch(profile, now)
        return profile

    def _found(self, who: Mapping[str, Any]) -> Profile | None:
        """Find a profile by id, else by its other identifiers, e-mail address first."""
        profiles = self._account.profiles
        if "id" in who:
            return profiles.by_id.get(who["id"])
        return next(iter(profiles.matches(who)), None)

    def _known(self, who: Mapping[str, Any]) -> Profile | None:
        """Find a profile, and outside the worst mode make it: its refusal is kept."""
        profile = self._found(who)
        if profile is None and not self._account.worst:
            return self._account.profiles.create(who, self._account.write(None))
        return profile

    def _echo(self, profile: Profile, name: str, now: datetime) -> None:
        if self._account.worst:
            self._event(profile, name, now)

    def _event(self, profile: Profile, name: str, now: datetime) -> None:
        events = self._account.events
        events.write(events.metric(name, now, own=True), profile.id, now, {})
        profile.last_event = now

    # By themselves

    def act(self, act: PersonAct, target: MailingList | None, address: str, now: datetime) -> None:
        """Let somebody act; a list narrows joining, confirming and leaving. Raises LookupError where that cannot be."""
        account, who = self._account, {"email": address}
        profile = self._found(who)
        if act is PersonAct.SUBSCRIBE and profile is None:
            profile = account.profiles.create(who, account.write(None))
        if profile is None or profile.standing is None:
            raise LookupError("nobody with that address is in the account")
        if act is PersonAct.ERASE:
            account.erase(profile)
            return
        standings = account.standings
        match act:
            case PersonAct.UNSUBSCRIBE:
                self._leave(profile, profile.standing, target, now)
            case PersonAct.BOUNCE:
                standings.suppress(profile.standing, BOUNCE, now, how=act.value)
            case PersonAct.COMPLAIN:
                standings.suppress(profile.standing, COMPLAINT, now, how=act.value)
            case PersonAct.SUBSCRIBE:
                standings.subscribe(profile.standing, Agreement(at=now, now=now, method="FORM"))
                if target is not None:
                    target.add(profile, now)
            case PersonAct.CONFIRM:
                self._confirm(profile, profile.standing, now)
            case _:
                pass  # opens and clicks change nothing but the events
        self._event(profile, _EVENTS[act], now)
        account.profiles.touch(profile, now)

    def _leave(self, profile: Profile, standing: Standing, target: MailingList | None, now: datetime) -> None:
        if target is not None and target.id in profile.lists:
            self._account.standings.leave_list(standing, target.id, now)
            target.remove(profile)
        else:
            self._account.standings.unsubscribe(standing, now, how=PersonAct.UNSUBSCRIBE.value)

    def _confirm(self, profile: Profile, standing: Standing, now: datetime) -> None:
        if not standing.pending:
            raise LookupError("nobody with that address was sent a confirmation mail")
        lists = self._account.lists.by_id
        waiting = [lists[each] for each in standing.pending if each in lists]
        self._account.standings.subscribe(standing, Agreement(at=now, now=now, double_optin=True))
        for each in waiting:
            each.add(profile, now)
