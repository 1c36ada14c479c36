"""The host's errand to the network, against a real server on loopback: it asks whom it was told to, and nobody else."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_server import serving

from harnessx.errors import FetchRefused, NetworkFailure, Outcome
from harnessx.models.base import CallContext
from harnessx.runner.broker import Broker, is_public
from harnessx.web import Fetch, Fetched, WebRules


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def other():
    with serving() as server:
        yield server


def broker(*hosts: str, **limits) -> Broker:
    return Broker(WebRules(hosts, **{"timeout_s": 5.0, "patience_s": 1.0, **limits}))


async def ask(one: Broker, url: str, method: str = "GET", **parts) -> Fetched:
    return await one.fetch(Fetch.of(url, method, **parts), CallContext())


async def test_an_allowed_host_is_asked_for_what_was_said_and_nothing_of_the_host_goes_along(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    fetched = await ask(
        broker(server.host), server.url("/say?text=hello"), "POST", headers={"X-A": "1"}, body="b\u00e9"
    )
    assert (fetched.status, fetched.text, fetched.url) == (200, "hello", server.url("/say?text=hello"))
    ((method, path, headers, body),) = server.asked
    assert (method, path, body) == ("POST", "/say?text=hello", "b\u00e9".encode())
    assert {name.lower() for name in headers} == {
        "x-a", "host", "accept", "accept-encoding", "user-agent", "connection", "content-length"
    }  # fmt: skip
    assert headers["host"] == server.host


async def test_an_answer_is_passed_on_whatever_its_status_and_bytes(server):
    one = broker(server.host)
    assert (await ask(one, server.url("/status?code=404"))).status == 404
    assert (await ask(one, server.url("/status?code=500"))).status == 500
    assert (await ask(one, server.url("/bytes"))).body == bytes(range(256))
    head = await ask(one, server.url("/say?text=hello"), "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "5")


@pytest.mark.parametrize("hosts", [(), ("a.example.org",), ("127.0.0.1",), ("127.0.0.1:1",), ("[::1]",)])
async def test_another_host_or_port_is_refused_before_anything_is_sent(server, hosts):
    with pytest.raises(FetchRefused, match=rf"{server.host} is not an allowed host \(sandbox.allow_hosts"):
        await ask(broker(*hosts), server.url("/count"))
    assert server.asked == []


async def test_a_redirect_is_followed_where_it_is_allowed_and_leaves_keys_behind_on_its_way_to_another(server, other):
    one = broker(server.host, other.host)
    url = server.url(f"/to?code=307&url={other.url('/count')}")
    fetched = await ask(one, url, "POST", headers={"Authorization": "k", "X-A": "1"}, body="b")
    assert (fetched.text, fetched.url, fetched.via) == ("answer 1", other.url("/count"), (url,))
    ((method, _, headers, body),) = other.asked
    assert (method, body, headers["x-a"]) == ("POST", b"b", "1")
    assert "authorization" in {name.lower() for name in server.asked[0][2]}
    assert "authorization" not in {name.lower() for name in headers}
    await ask(one, server.url("/to?code=303&url=/count"), "POST", headers={"Authorization": "k"}, body="b")
    method, path, headers, body = server.asked[-1]
    assert (method, path, body, headers["authorization"]) == ("GET", "/count", b"", "k")


@pytest.mark.parametrize(
    "target", ["{other}/count", "http://metadata.example.org/", "file:///etc/passwd", "//[", "//u@x/"]
)
async def test_a_redirect_to_what_is_not_allowed_is_refused(server, other, target):
    with pytest.raises(FetchRefused):
        await ask(broker(server.host), server.url(f"/to?url={target.format(other=other.url(''))}"))
    assert len(server.asked) == 1
    assert other.asked == []


async def test_a_redirect_without_end_is_refused(server):
    with pytest.raises(FetchRefused, match="more than 5 redirects"):
        await ask(broker(server.host), server.url("/loop"))
    assert len(server.asked) == 6


async def test_a_name_that_stands_for_a_machine_here_is_refused_and_its_address_is_not(server):
    with pytest.raises(FetchRefused, match=r"localhost stands for .*, which is not public"):
        await ask(broker(f"localhost:{server.server_port}"), f"http://localhost:{server.server_port}/count")
    assert server.asked == []
    assert (await ask(broker(server.host), server.url("/count"))).text == "answer 1"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::ffff:127.0.0.1"]])
async def test_a_name_with_any_address_that_is_not_public_is_refused(addresses):
    async def resolve(host: str, port: int) -> list[str]:
        return addresses

    with pytest.raises(FetchRefused, match="not public"):
        await Broker(WebRules(("a.example.org",)), resolve).fetch(Fetch("http://a.example.org/"), CallContext())


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(server, monkeypatch):
    """A name that is public when it is looked at and this machine when it is connected to."""
    asked = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["93.184.216.34"] if len(asked) == 1 else ["127.0.0.1"]

    connected = []

    async def connect_tcp(self, host, port, *options):
        import httpcore

        connected.append((host, port))
        raise httpcore.ConnectError("unreachable")

    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect_tcp)
    rules = WebRules((f"a.example.org:{server.server_port}",), patience_s=0.01)
    with pytest.raises(NetworkFailure, match="unreachable"):
        await Broker(rules, rebinding).fetch(Fetch(f"http://a.example.org:{server.server_port}/"), CallContext())
    assert asked == ["a.example.org"]
    assert connected == [("93.184.216.34", server.server_port)]
    assert server.asked == []


async def test_an_answer_that_is_too_long_is_refused_and_one_that_just_fits_is_not(server):
    one = broker(server.host, answer_bytes=5000)
    assert len((await ask(one, server.url("/big?size=5000"))).body) == 5000
    with pytest.raises(FetchRefused, match=r"longer than 5,000 bytes \(sandbox.answer_bytes"):
        await ask(one, server.url("/big?size=50000000"))


async def test_a_host_that_is_too_slow_is_asked_again_and_then_given_up(server):
    began = time.monotonic()
    with pytest.raises(NetworkFailure, match=r"no answer within 0.1 s") as caught:
        await ask(broker(server.host, timeout_s=0.1, patience_s=0.6), server.url("/slow?s=1"))
    assert caught.value.outcome is Outcome.INFRA_ERROR
    assert 2 <= len(server.asked) <= 6
    assert time.monotonic() - began < 2


async def test_a_busy_host_is_asked_again_until_it_answers(server):
    assert (await ask(broker(server.host), server.url("/busy"))).text == "late"
    assert len(server.asked) == 3
    with pytest.raises(NetworkFailure, match="status 429"):
        await ask(broker(server.host, patience_s=0.2), server.url("/status?code=429"))


async def test_a_host_that_is_not_there_is_nobodys_fault():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(NetworkFailure) as caught:
            await ask(broker(host, patience_s=0.3), f"http://{host}/")
    assert caught.value.outcome is Outcome.INFRA_ERROR


async def test_one_that_does_not_speak_http_or_tls_is_a_failure_too(server):
    async def garble(reader, writer):
        writer.write(b"\x00\x01 nonsense\r\n\r\n")
        writer.close()

    garbler = await asyncio.start_server(garble, "127.0.0.1", 0)
    host = f"127.0.0.1:{garbler.sockets[0].getsockname()[1]}"
    for url in (f"http://{host}/", f"https://{host}/"):
        with pytest.raises(NetworkFailure):
            await ask(broker(host, patience_s=0.1), url)
    garbler.close()


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_as_public_as_it_is(inner):
    number = int(inner)
    wrapped = (f"::ffff:{inner}", f"64:ff9b::{inner}", f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1")
    if not is_public(str(inner)):
        assert not any(map(is_public, wrapped))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "fd00:ec2::254", "nonsense"],
)  # fmt: skip
def test_what_is_of_this_machine_or_its_neighbours_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"])
def test_the_open_network_is(address):
    assert is_public(address)
