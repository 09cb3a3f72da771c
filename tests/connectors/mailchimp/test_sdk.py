import inspect
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import responses
from mailchimp_marketing.api_client import ApiClient

from segue.connectors.limiter import Limiter
from segue.connectors.mailchimp.sdk import endpoints
from segue.connectors.mailchimp.testing import Sandbox
from segue.connectors.patience import Patience
from segue.connectors.transport import RefusedRequestError, Transport
from segue.connectors.verdicts import Dialect
from segue.core.errors import AuthenticationError, OutcomeUnknownError, RetryableError

BASE = "https://server.api.test/3.0"  # the text that the SDK as shipped would rewrite


@pytest.fixture
def transport() -> Iterator[Transport]:
    with Transport(
        BASE,
        dialect=Dialect(label="Mailchimp"),
        auth=("segue", "k-us1"),
        limiter=Limiter(3),
        patience=Patience(attempts=1, total_seconds=0),
    ) as made:
        yield made


@pytest.fixture
def esp() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def test_the_base_url_is_ours_and_nothing_in_it_or_in_an_id_is_rewritten(
    esp: responses.RequestsMock, transport: Transport
) -> None:
    esp.get(f"{BASE}/lists/server1/members/server-hash", json={"id": "x"})
    endpoints(transport).lists.get_list_member("server1", "server-hash")


def test_an_id_cannot_leave_its_place_in_the_path(esp: responses.RequestsMock, transport: Transport) -> None:
    esp.get(f"{BASE}/lists/b1/members/..%2F..%2Fping%3Fa%3D1", json={"id": "x"})
    endpoints(transport).lists.get_list_member("b1", "../../ping?a=1")


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_an_error_without_a_body_raises_where_the_sdk_as_shipped_returns_it(
    esp: responses.RequestsMock, transport: Transport, status: int
) -> None:
    esp.get(f"{BASE}/lists/b1", status=status)
    with pytest.raises(Exception, match=str(status)):
        endpoints(transport).lists.get_list("b1")


def test_errors_are_the_transports_with_parsed_problem(
    esp: responses.RequestsMock, transport: Transport
) -> None:
    body = {"title": "Member Exists", "status": 400, "detail": "x"}
    esp.post(
        f"{BASE}/lists/b1/members", body=json.dumps(body), status=400, content_type="application/problem+json"
    )
    with pytest.raises(RefusedRequestError) as caught:
        endpoints(transport).lists.add_list_member("b1", {"email_address": "a@b.test"})
    assert (caught.value.code, caught.value.body) == ("Member Exists", body)


def test_204_gives_none(esp: responses.RequestsMock, transport: Transport) -> None:
    esp.post(f"{BASE}/lists/b1/members/abc/tags", status=204)
    assert endpoints(transport).lists.update_list_member_tags("b1", "abc", {"tags": []}) is None


def test_lists_and_truths_in_a_query_read_as_mailchimp_writes_them(
    esp: responses.RequestsMock, transport: Transport
) -> None:
    esp.get(
        f"{BASE}/lists/b1",
        json={"id": "b1"},
        match=[
            responses.matchers.query_param_matcher({"fields": "id,name", "include_total_contacts": "true"})
        ],
    )
    endpoints(transport).lists.get_list("b1", fields=["id", "name"], include_total_contacts=True)


def test_what_can_raise_consent_goes_through_an_endpoint_that_sends_once(
    esp: responses.RequestsMock, transport: Transport
) -> None:
    esp.post(f"{BASE}/lists/b1", status=500)
    api = endpoints(transport)
    with pytest.raises(OutcomeUnknownError):
        api.lists_once.batch_list_members("b1", {"members": []})
    with pytest.raises(RetryableError):
        api.lists.batch_list_members("b1", {"members": []})


def test_the_sdk_has_one_way_out_and_we_replace_it(transport: Transport) -> None:
    """Whatever an endpoint does, it ends in `call_api`; ours never reaches the SDK's own `request`."""
    ours = type(endpoints(transport).lists.api_client)
    assert ours.call_api is not ApiClient.call_api
    assert (
        list(inspect.signature(ApiClient.call_api).parameters)[:8]
        == list(inspect.signature(ours.call_api).parameters)[:8]
    )
    assert "self.request(" in inspect.getsource(ApiClient.call_api)
    assert "requests" not in inspect.getsource(ours)


def test_no_socket_opens_outside_the_transport(mailchimp: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        opened.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    with Transport(
        mailchimp.base_url,
        dialect=Dialect(label="Mailchimp"),
        auth=("segue", mailchimp.key),
        limiter=Limiter(3),
    ) as transport:
        api = endpoints(transport)
        for _ in range(4):
            api.root.get_root()
            api.lists.get_list(mailchimp.audience)
            api.lists_once.batch_list_members(mailchimp.audience, {"members": [], "update_existing": False})
        assert len(opened) == 1
        assert transport.traffic().requests == len(mailchimp.referee.exchanges) == 12


def test_a_wrong_key_is_said_without_the_key(mailchimp: Sandbox) -> None:
    with (
        Transport(
            mailchimp.base_url,
            dialect=Dialect(label="Mailchimp"),
            auth=("segue", "wrong-us19"),
            limiter=Limiter(3),
        ) as transport,
        pytest.raises(AuthenticationError, match="401 API Key Invalid") as caught,
    ):
        endpoints(transport).root.get_root()
    assert "wrong-us19" not in str(caught.value)
