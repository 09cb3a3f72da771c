"""Drives a local Klaviyo with the vendor's own client, unpatched, in an environment of the client's own.

Run by `test_emulator_sdk.py` as `python drive_sdk.py SCENARIO ORIGIN KEY [ARGUMENTS]`; prints what it saw as JSON.
"""

import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from klaviyo_api import KlaviyoAPI  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

ANNA, BERT = "anna@shop.de", "bert@shop.de"
BEFORE = "2025-01-01T00:00:00+00:00"


def plain(answer: Any) -> Any:
    """Give an answer as JSON, whether the client made a model of it or not."""
    if answer is None or isinstance(answer, dict):
        return answer
    return json.loads(json.dumps(answer.to_dict(), default=str))  # its own to_json fails on times


def profile(**attributes: Any) -> dict[str, Any]:
    return {"type": "profile", "attributes": attributes}


def profiles(client: Any) -> Any:
    made = plain(client.Profiles.create_profile({"data": profile(email=ANNA, properties={"score": 3})}))
    name = made["data"]["id"]
    changed = {"data": {"id": name, **profile(first_name="Anna", properties={"score": None})}}
    client.Profiles.update_profile(name, changed)
    read = plain(client.Profiles.get_profile(name, additional_fields_profile=["subscriptions"]))
    for number in range(25):
        client.Profiles.create_or_update_profile({"data": profile(email=f"p{number}@shop.de")})
    try:
        client.Profiles.create_profile({"data": profile(email=ANNA)})
        conflict = None
    except Exception as error:  # noqa: BLE001 - of whatever class the client makes it
        conflict = [getattr(error, "status", None), json.loads(getattr(error, "body", "{}"))]
    since = "greater-than(updated,2025-01-01T00:00:00Z)"
    page = plain(client.Profiles.get_profiles(filter=since, sort="updated", page_size=20))
    # The client itself reads the cursor out of a whole address when that begins with https alone.
    [cursor] = parse_qs(urlsplit(page["links"]["next"]).query)["page[cursor]"]
    following = plain(client.Profiles.get_profiles(filter=since, sort="updated", page_cursor=cursor))
    return {
        "read": read["data"]["attributes"],
        "conflict": conflict,
        "pages": [[each["attributes"]["email"] for each in shown["data"]] for shown in (page, following)],
    }


def importing(client: Any) -> Any:
    meta = {"patch_properties": {"append": {"tags": "vip"}}}
    made = client.Profiles.create_or_update_profile({"data": {**profile(email=ANNA), "meta": meta}})
    attributes = {"profiles": {"data": [profile(email=BERT, first_name="Bert"), profile(email="nonsense")]}}
    made_list = plain(client.Lists.create_list({"data": {"type": "list", "attributes": {"name": "News"}}}))
    list_id = made_list["data"]["id"]
    job: dict[str, Any] = {"type": "profile-bulk-import-job", "attributes": attributes}
    job["relationships"] = {"lists": {"data": [{"type": "list", "id": list_id}]}}
    name = plain(client.Profiles.bulk_import_profiles({"data": job}))["data"]["id"]
    looks = [
        plain(client.Profiles.get_bulk_import_profiles_job(name))["data"]["attributes"] for _ in range(3)
    ]
    shown = looks[-1]
    errors = plain(client.Profiles.get_errors_for_bulk_import_profiles_job(name))
    members = plain(client.Lists.get_profiles_for_list(list_id))
    taken = plain(client.Profiles.get_profiles_for_bulk_import_profiles_job(name))
    return {
        "properties": plain(made)["data"]["attributes"]["properties"],
        "states": [each["status"] for each in looks],
        "counts": [shown["total_count"], shown["completed_count"], shown["failed_count"]],
        "errors": [each["attributes"]["source"]["pointer"] for each in errors["data"]],
        "members": [each["attributes"]["email"] for each in members["data"]],
        "taken": [each["attributes"]["email"] for each in taken["data"]],
    }


def lists(client: Any) -> Any:
    made = plain(client.Lists.create_list({"data": {"type": "list", "attributes": {"name": "News"}}}))
    list_id = made["data"]["id"]
    name = plain(client.Profiles.create_profile({"data": profile(email=ANNA)}))["data"]["id"]
    membership = {"data": [{"type": "profile", "id": name}]}
    client.Lists.add_profiles_to_list(list_id, membership)
    members = [len(plain(client.Lists.get_profiles_for_list(list_id, page_size=100))["data"])]
    client.Lists.remove_profiles_from_list(list_id, membership)
    members.append(len(plain(client.Lists.get_profiles_for_list(list_id))["data"]))
    names = [each["attributes"]["name"] for each in plain(client.Lists.get_lists())["data"]]
    client.Lists.delete_list(list_id)
    return {"members": members, "names": names}


def subscribing(client: Any, list_id: str) -> Any:
    def marketing(consent: dict[str, str]) -> dict[str, Any]:
        return {"email": {"marketing": consent}}

    agreed = marketing({"consent": "SUBSCRIBED", "consented_at": BEFORE})
    people = [profile(email=each, subscriptions=agreed) for each in (ANNA, BERT)]
    job: dict[str, Any] = {
        "type": "profile-subscription-bulk-create-job",
        "attributes": {"historical_import": True, "profiles": {"data": people}},
        "relationships": {"list": {"data": {"type": "list", "id": list_id}}},
    }
    answer = client.Profiles.bulk_subscribe_profiles({"data": job})
    left = [profile(email=BERT, subscriptions=marketing({"consent": "UNSUBSCRIBED"}))]
    job = {"type": "profile-subscription-bulk-delete-job", "attributes": {"profiles": {"data": left}}}
    client.Profiles.bulk_unsubscribe_profiles({"data": job})
    job = {
        "type": "profile-suppression-bulk-create-job",
        "attributes": {"profiles": {"data": [profile(email=ANNA)]}},
    }
    name = plain(client.Profiles.bulk_suppress_profiles({"data": job}))["data"]["id"]
    *_, suppressed = [plain(client.Profiles.get_bulk_suppress_profiles_job(name))["data"] for _ in range(3)]
    shown = plain(client.Profiles.get_profiles(additional_fields_profile=["subscriptions"]))["data"]
    events = plain(client.Events.get_events(sort="timestamp"))["data"]
    metrics = plain(client.Metrics.get_metrics())["data"]
    return {
        "answer": plain(answer),
        "suppressed": suppressed["attributes"]["status"],
        "consents": {
            each["attributes"]["email"]: each["attributes"]["subscriptions"]["email"]["marketing"]["consent"]
            for each in shown
        },
        "events": len(events),
        "metrics": [each["attributes"]["name"] for each in metrics],
    }


def erasing(client: Any) -> Any:
    client.Profiles.create_profile({"data": profile(email=ANNA)})
    job = {"type": "data-privacy-deletion-job", "attributes": {"profile": {"data": profile(email=ANNA)}}}
    client.Data_Privacy.request_profile_deletion({"data": job})
    return {"left": len(plain(client.Profiles.get_profiles())["data"])}


def throttled(client: Any) -> Any:
    return {"names": [plain(client.Accounts.get_accounts())["data"][0]["id"] for _ in range(2)]}


SCENARIOS = {each.__name__: each for each in (profiles, importing, lists, subscribing, erasing, throttled)}

if __name__ == "__main__":
    _, scenario, origin, key, *arguments = sys.argv
    client = KlaviyoAPI(key, max_delay=5, max_retries=3, test_host=origin)
    print(json.dumps(SCENARIOS[scenario](client, *arguments)))  # noqa: T201 - its answer
