import socket
import traceback
from email.utils import format_datetime
from typing import Any

import pytest
import requests
import responses
from urllib3 import HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError

from segue.connectors.limiter import Limiter, urgent
from segue.connectors.patience import Patience
from segue.connectors.transport import RefusedRequestError, Transport
from segue.connectors.verdicts import Dialect, Verdict
from segue.core.errors import (
    AuthenticationError,
    DestinationError,
    OutcomeUnknownError,
    RejectedBatchError,
    RetryableError,
    SegueError,
)
from segue.core.model import RateLimit

from .conftest import ADDRESS, BASE, HASH, KEY, Hours, Make, problem, sent


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedRequestError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, RefusedRequestError),
        (405, DestinationError),
        (409, RefusedRequestError),
        (413, RefusedRequestError),
        (422, RefusedRequestError),
        (423, RetryableError),
        (425, RetryableError),
        (429, RetryableError),
        (500, RetryableError),
        (501, DestinationError),
        (502, RetryableError),
        (503, RetryableError),
        (504, RetryableError),
        (599, RetryableError),
    ],
)
def test_each_status_becomes_the_error_that_says_what_to_do(
    esp: responses.RequestsMock, make: Make, status: int, error: type[SegueError]
) -> None:
    esp.get(f"{BASE}/things", **problem("Some Title", status))
    with pytest.raises(error) as caught:
        make(patience=Patience(attempts=2, total_seconds=60)).request("GET", "/things")
    assert type(caught.value) is error
    assert str(status) in str(caught.value)


def test_a_refusal_keeps_the_answer_for_the_connector_and_counts_as_a_rejected_batch(
    esp: responses.RequestsMock, make: Make
) -> None:
    esp.post(f"{BASE}/things", **problem("Member Exists", 400))
    with pytest.raises(RejectedBatchError) as caught:
        make().request("POST", "/things", json={})
    error = caught.value
    assert isinstance(error, RefusedRequestError)
    assert (error.status, error.code, error.body["status"]) == (400, "Member Exists", 400)
    assert sent(esp) == 1


def test_a_404_that_is_no_problem_document_is_about_our_address_not_about_the_thing(
    esp: responses.RequestsMock, make: Make
) -> None:
    esp.get(f"{BASE}/members/{HASH}", body="<html>no such page</html>", status=404, content_type="text/html")
    with pytest.raises(DestinationError, match="base URL") as caught:
        make().request("GET", f"/members/{HASH}")
    assert not isinstance(caught.value, RejectedBatchError)


def test_a_connectors_row_beats_the_table(esp: responses.RequestsMock, make: Make, hours: Hours) -> None:
    esp.get(f"{BASE}/things", status=403)
    esp.get(f"{BASE}/things", json={"ok": True})
    transport = make(errors={(403, ""): Verdict.THROTTLED})
    assert transport.request("GET", "/things").body == {"ok": True}
    assert transport.traffic().throttled == 1


def test_the_same_status_with_a_title_keeps_its_own_meaning(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", **problem("User Disabled", 403))
    with pytest.raises(AuthenticationError, match="User Disabled"):
        make(errors={(403, ""): Verdict.THROTTLED}).request("GET", "/things")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_what_passes_is_tried_again_until_it_works(
    esp: responses.RequestsMock, make: Make, hours: Hours, method: str
) -> None:
    esp.add(method, f"{BASE}/things", status=500)
    esp.add(method, f"{BASE}/things", body=requests.ReadTimeout("jane"))
    esp.add(method, f"{BASE}/things", json={"ok": True})
    transport = make()
    assert transport.request(method, "/things").body == {"ok": True}
    assert transport.traffic().retries == 2
    assert len(hours.slept) == 2
    assert hours.slept[1] > 0.5


def test_attempts_are_capped(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", status=500)
    with pytest.raises(RetryableError):
        make(patience=Patience(attempts=3, total_seconds=1e9)).request("GET", "/things")
    assert sent(esp) == 3


def test_total_time_is_capped(esp: responses.RequestsMock, make: Make, hours: Hours) -> None:
    esp.get(f"{BASE}/things", status=500)
    with pytest.raises(RetryableError):
        make(patience=Patience(attempts=10**6, total_seconds=60)).request("GET", "/things")
    assert sum(hours.slept) <= 60


def test_being_told_to_slow_down_costs_no_attempt(esp: responses.RequestsMock, make: Make) -> None:
    for _ in range(7):
        esp.get(f"{BASE}/things", status=429, headers={"Retry-After": "1"})
    esp.get(f"{BASE}/things", json={"ok": True})
    transport = make(patience=Patience(attempts=1, total_seconds=600))
    assert transport.request("GET", "/things").body == {"ok": True}
    assert transport.traffic().throttled == 7


@pytest.mark.parametrize("header", [{}, {"Retry-After": "0"}, {"Retry-After": "soon"}])
def test_being_told_to_slow_down_for_ever_ends_with_the_time(
    esp: responses.RequestsMock, make: Make, hours: Hours, header: dict[str, str]
) -> None:
    esp.get(f"{BASE}/things", status=429, headers=header)
    with pytest.raises(RetryableError) as caught:
        make(patience=Patience(total_seconds=20)).request("GET", "/things")
    assert caught.value.throttled
    assert sum(hours.slept) <= 20


def test_retry_after_in_seconds_wins_over_our_own_wait(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/things", status=503, headers={"Retry-After": "17"})
    esp.get(f"{BASE}/things", json={"ok": True})
    make().request("GET", "/things")
    assert 17 <= sum(hours.slept) <= 18


def test_retry_after_as_a_date_is_counted_from_the_answers_own_date(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    from datetime import UTC, datetime, timedelta

    then = datetime(2011, 12, 10, tzinfo=UTC)
    headers = {
        "Date": format_datetime(then, usegmt=True),
        "Retry-After": format_datetime(then + timedelta(seconds=40), usegmt=True),
    }
    esp.get(f"{BASE}/things", status=429, headers=headers)
    esp.get(f"{BASE}/things", json={"ok": True})
    make().request("GET", "/things")
    assert 40 <= sum(hours.slept) <= 42


def test_a_retry_after_beyond_our_patience_ends_the_call_at_once_and_is_passed_on(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/things", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(RetryableError) as caught:
        make().request("GET", "/things")
    assert caught.value.retry_after == 3600
    assert (sent(esp), hours.slept) == (1, [])


def test_one_throttled_answer_holds_the_whole_account_back(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/slow", status=429, headers={"Retry-After": "50"})
    esp.get(f"{BASE}/other", json={"ok": True})
    transport = make(patience=Patience(total_seconds=40))
    for path in ("/slow", "/other"):
        with pytest.raises(RetryableError) as caught:
            transport.request("GET", path)
        assert (caught.value.retry_after, caught.value.throttled) == (50, True)
    assert sent(esp) == 1
    hours.seconds += 20
    transport.request("GET", "/other")
    assert hours.slept == [30]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"status": 502, "body": "<html>", "content_type": "text/html"},
        {"status": 503},
        {"status": 504},
        {"body": requests.ReadTimeout(ADDRESS)},
        {"body": requests.ConnectionError(ADDRESS)},
        {"body": requests.exceptions.ChunkedEncodingError(ADDRESS)},
        {"status": 200, "body": '{"new_members": [', "content_type": "application/json"},
        {"status": 200, "body": "<html>", "content_type": "text/html"},
        {"status": 200, "body": "", "content_type": "application/json"},
        {"status": 200, "body": b"\xff\xfe", "content_type": "application/json"},
    ],
)
def test_a_request_that_may_raise_consent_is_sent_once_and_its_lost_answer_is_unknown(
    esp: responses.RequestsMock, make: Make, hours: Hours, answer: dict[str, Any]
) -> None:
    esp.post(f"{BASE}/things", **answer)
    transport = make()
    with pytest.raises(OutcomeUnknownError, match="not known"):
        transport.request("POST", "/things", json={"status": "subscribed"}, retry=False)
    assert (sent(esp), hours.slept, transport.traffic().retries) == (1, [], 0)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 429},
        {"status": 408},
        {"status": 503, "headers": {"Retry-After": "5"}},
        {"body": requests.ConnectTimeout(ADDRESS)},
    ],
)
def test_such_a_request_that_was_certainly_not_carried_out_may_go_back_to_the_gate(
    esp: responses.RequestsMock, make: Make, answer: dict[str, Any]
) -> None:
    esp.post(f"{BASE}/things", **answer)
    with pytest.raises(RetryableError):
        make().request("POST", "/things", json={}, retry=False)
    assert sent(esp) == 1


def test_such_a_request_does_not_wait_behind_a_closed_door(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/slow", status=429, headers={"Retry-After": "50"})
    transport = make(patience=Patience(total_seconds=10))
    with pytest.raises(RetryableError):
        transport.request("GET", "/slow")
    with pytest.raises(RetryableError) as caught:
        transport.request("POST", "/things", json={}, retry=False)
    assert caught.value.retry_after == 50
    assert [call.request.method for call in esp.calls] == ["GET"]


def test_a_mangled_answer_to_a_safe_write_ends_as_retryable(esp: responses.RequestsMock, make: Make) -> None:
    esp.patch(f"{BASE}/things", body='{"half', content_type="application/json")
    with pytest.raises(RetryableError, match="mangled"):
        make(patience=Patience(attempts=4)).request("PATCH", "/things", json={})
    assert sent(esp) == 4


def test_204_is_a_success_without_a_body(esp: responses.RequestsMock, make: Make) -> None:
    esp.post(f"{BASE}/tags", status=204)
    answer = make().request("POST", "/tags", json={})
    assert (answer.status, answer.body) == (204, None)


def test_an_empty_object_is_an_answer(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", json={})
    assert make().request("GET", "/things").body == {}


def test_a_redirect_is_not_followed_with_the_key(esp: responses.RequestsMock, make: Make) -> None:
    esp.post(f"{BASE}/things", status=302, headers={"Location": "https://elsewhere.test/"})
    with pytest.raises(DestinationError, match="302"):
        make().request("POST", "/things", json={})
    assert sent(esp) == 1


@pytest.mark.parametrize(
    "answer",
    [
        problem(f"Title with {ADDRESS}", 400),
        problem("API Key Invalid", 401),
        {"status": 500, "body": ADDRESS},
        {"status": 500, "headers": {"X-Request-Id": ADDRESS}},
        {"status": 418, "body": ADDRESS},
        {"body": requests.ConnectionError(f"{ADDRESS} {HASH} {KEY}")},
        {"body": requests.exceptions.InvalidHeader(f"{ADDRESS} {HASH} {KEY}")},
    ],
)
@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("path", [f"/lists/b1/members/{HASH}/tags", f"/lists/b1/members/{ADDRESS}"])
def test_no_error_holds_an_address_its_hash_or_the_key(
    esp: responses.RequestsMock, make: Make, answer: dict[str, Any], retry: bool, path: str
) -> None:
    esp.post(f"{BASE}{path}", **answer)
    with pytest.raises(SegueError) as caught:
        make(patience=Patience(attempts=1)).request(
            "POST", path, params={"q": ADDRESS}, json=ADDRESS, retry=retry
        )
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not [secret for secret in (ADDRESS, "jane.doe", HASH, KEY) if secret in told]


def test_an_error_names_place_status_code_and_request_id(esp: responses.RequestsMock, make: Make) -> None:
    esp.patch(
        f"{BASE}/lists/b1/members/{HASH}",
        **problem("Invalid Resource", 400),
        headers={"X-Request-Id": "r-77"},
    )
    with pytest.raises(RefusedRequestError) as caught:
        make().request("PATCH", f"/lists/b1/members/{HASH}", json={})
    assert str(caught.value) == "Esp refuses PATCH /lists/b1/members/… (400 Invalid Resource, request r-77)."


def test_json_goes_out_compact_and_as_utf8(esp: responses.RequestsMock, make: Make) -> None:
    esp.post(f"{BASE}/things", json={})
    make().request("POST", "/things", json={"name": "Zoë", "n": [1, 2]})
    request = esp.calls[0].request
    assert request.body == '{"name":"Zoë","n":[1,2]}'.encode()
    assert request.headers["Content-Type"] == "application/json"


def test_a_request_without_contents_sends_none(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", json={})
    make().request("GET", "/things")
    request = esp.calls[0].request
    assert request.body is None
    assert "Content-Type" not in request.headers


def test_a_plus_in_a_query_is_encoded(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", json={})
    make().request("GET", "/things", params={"since": "2011-12-10T00:00:00+00:00"})
    assert str(esp.calls[0].request.url).endswith("since=2011-12-10T00%3A00%3A00%2B00%3A00")


def test_traffic_counts_every_attempt_by_method(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    def slowly(_: Any) -> tuple[int, dict[str, str], str]:
        hours.seconds += 2
        return 200, {"Content-Type": "application/json"}, "{}"

    esp.get(f"{BASE}/things", status=500)
    esp.add_callback("GET", f"{BASE}/things", slowly)
    esp.add_callback("POST", f"{BASE}/things", slowly)
    transport = make()
    transport.request("GET", "/things")
    before = transport.traffic()
    transport.request("POST", "/things", json={})
    after = transport.traffic()
    assert dict(after.by_method) == {"GET": 2, "POST": 1}
    assert (after.requests, after.reads, after.writes, after.retries) == (3, 2, 1, 1)
    assert after.seconds == 4
    assert before.requests == 2  # a snapshot stays as it was


@pytest.mark.parametrize("error", [NewConnectionError, NameResolutionError])
def test_a_host_that_cannot_be_reached_is_tried_again_and_was_never_sent_to(
    esp: responses.RequestsMock, make: Make, hours: Hours, error: type[Exception]
) -> None:
    pool = HTTPSConnectionPool("us19.esp.test")
    told = "nobody there"
    reason = (
        NameResolutionError("us19.esp.test", pool, socket.gaierror(told))  # type: ignore[arg-type]  # as urllib3 itself does
        if error is NameResolutionError
        else NewConnectionError(pool, told)  # type: ignore[arg-type]  # as urllib3 itself does
    )
    esp.add(
        "GET", f"{BASE}/things", body=requests.ConnectionError(MaxRetryError(pool, "/3.0/things", reason))
    )
    esp.add(
        "POST", f"{BASE}/things", body=requests.ConnectionError(MaxRetryError(pool, "/3.0/things", reason))
    )
    transport = make(patience=Patience(attempts=2))
    with pytest.raises(RetryableError, match=r"cannot reach us19\.esp\.test"):
        transport.request("GET", "/things")
    with pytest.raises(RetryableError, match="cannot reach"):
        transport.request("POST", "/things", json={}, retry=False)
    assert len(hours.slept) == 1


def test_such_a_request_does_not_wait_long_for_a_turn_either(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.post(f"{BASE}/things", json={})
    transport = make(rate_limits=[RateLimit(count=1, seconds=10)])
    transport.request("POST", "/things", json={}, retry=False)
    with pytest.raises(RetryableError, match="told to wait") as caught:
        transport.request("POST", "/things", json={}, retry=False)
    assert (caught.value.throttled, caught.value.retry_after) == (True, 10)
    assert (sent(esp), hours.slept) == (1, [])
    hours.seconds += 9.5
    transport.request("POST", "/things", json={}, retry=False)
    assert hours.slept == [0.5]


def test_an_opt_out_is_let_through_where_others_leave_room(esp: responses.RequestsMock, make: Make) -> None:
    esp.post(f"{BASE}/things", json={})
    transport = make(rate_limits=[RateLimit(count=20, seconds=10)])
    for _ in range(19):
        transport.request("POST", "/things", json={})
    with pytest.raises(RetryableError):
        transport.request("POST", "/things", json={}, retry=False)
    with urgent():
        transport.request("POST", "/things", json={}, retry=False)


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "7"}, 7),
        ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "7"}, 7),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "7.5"}, 7.5),
        ({"RateLimit": '"burst";r=0;t=7'}, 7),
        ({"RateLimit": "limit=10, remaining=0, reset=7"}, 7),
        (
            {
                "Date": "Sat, 10 Dec 2011 00:00:00 GMT",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": "1323475205",
            },
            5,
        ),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "86400"}, 60),
        ({"X-RateLimit-Remaining": "50", "X-RateLimit-Reset": "7"}, 0),
        ({"X-RateLimit-Remaining": "0"}, 0),
        ({"X-RateLimit-Remaining": "few", "X-RateLimit-Reset": "7"}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "nan"}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, 0),
    ],
)
def test_what_an_answer_says_is_left_holds_the_next_request_back(
    esp: responses.RequestsMock, make: Make, hours: Hours, headers: dict[str, str], waits: float
) -> None:
    esp.get(f"{BASE}/things", json={}, headers=headers)
    transport = make()
    transport.request("GET", "/things")
    transport.request("GET", "/things")
    assert sum(hours.slept) == waits


def test_accounts_are_told_apart_by_address_and_credentials_and_the_key_cannot_be_read() -> None:
    accounts = set()
    for base, auth in ((BASE, ("a", KEY)), (BASE, ("a", "other")), ("https://us2.esp.test/3.0", ("a", KEY))):
        with Transport(base, dialect=Dialect(label="Esp"), auth=auth, limiter=Limiter(1)) as transport:
            accounts.add(transport.account)
    assert len(accounts) == 3
    assert not [account for account in accounts if KEY in account or "esp" in account]
    with Transport(
        f"{BASE}/", dialect=Dialect(label="Esp"), auth=("a", KEY), limiter=Limiter(1)
    ) as transport:
        assert transport.account in accounts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_half_of_a_refusal_is_asked_for_again(esp: responses.RequestsMock, make: Make, status: int) -> None:
    half = '{"title": "Resource Not F'
    esp.get(f"{BASE}/things", status=status, body=half, content_type="application/problem+json")
    esp.get(f"{BASE}/things", json={"name": "a thing"})
    assert make().request("GET", "/things").body == {"name": "a thing"}
