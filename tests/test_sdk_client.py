"""The SDK's client as the lab opens it."""

import anthropic
import httpx2
import pytest
from anthropic._models import FinalRequestOptions

from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint

BODIES = ({"model": "m", "messages": []}, {"model": "m", "messages": [{"role": "user"}]})
HEADERS = ({}, {"anthropic-beta": "fast"}, {"Content-Type": "application/json; odd"})


@pytest.fixture
async def client():
    client = open_client(Endpoint("somewhere", "live", "https://somewhere.example/path", "key"))
    yield client
    await client.close()


def asked(client, body, headers=None, **others) -> httpx2.Request:
    """The request as it would be sent."""
    options = {"method": "post", "url": "/v1/messages", "json_data": body, "headers": headers or {}}
    return client._build_request(FinalRequestOptions.construct(**options | others))


def parts(request):
    return request.method, request.url, request.headers.raw, request.content, request.extensions


async def test_a_request_is_the_sdk_s_own_whether_it_is_the_first_of_its_kind_or_not(client):
    def of_sdk(*values):
        client._made.clear()
        return parts(asked(client, *values))

    for headers in HEADERS:
        first, second = [of_sdk(body, headers) for body in BODIES]
        client._made.clear()
        assert [parts(asked(client, body, headers)) for body in (*BODIES, *BODIES)] == [
            first,
            second,
        ] * 2
    assert len(client._made) == 1


async def test_what_is_set_on_the_client_later_is_in_the_next_request(client):
    asked(client, BODIES[0])
    client.api_key = "another"
    assert "another" in str(asked(client, BODIES[0]).headers.raw)
    client.timeout = 7.0
    assert asked(client, BODIES[0]).extensions["timeout"]["read"] == 7.0
    client._client.cookies.set("who", "me")
    assert asked(client, BODIES[0]).headers["cookie"] == "who=me"
    client._client.cookies.clear()
    assert "cookie" not in asked(client, BODIES[0]).headers


async def test_another_kind_of_request_is_left_to_the_sdk(client):
    asked(client, BODIES[0])
    others = [
        {"timeout": 3.0},
        {"params": {"beta": "true"}},
        {"extra_json": {"more": 1}},
        {"headers": {"anthropic-beta": anthropic.Omit()}},
    ]
    for options in others:
        asked(client, BODIES[0], **options)
    assert len(client._made) == 1
    assert asked(client, BODIES[0], params={"beta": "true"}).url.query == b"beta=true"
