"""Addresses and rules: what is read one way only, and what is not named is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harnessx.errors import FetchRefused
from harnessx.redaction import REDACTED, Redactor
from harnessx.runner.gateway import cleaned
from harnessx.web import Fetch, Fetched, Place, WebRules, check_request, host_of, place_of

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(lambda parts: ".".join([*parts, "org"]))
ports = st.integers(1, 65535)
hosts = names | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda a: f"[{a}]")


@settings(deadline=None)
@given(hosts, st.none() | ports, st.sampled_from(["http", "https"]))
def test_an_address_is_allowed_exactly_where_its_host_and_port_are_named(host, port, scheme):
    url = f"{scheme}://{host}" + ("" if port is None else f":{port}") + "/p?q=1"
    place = place_of(url)
    entry = host if port is None else f"{host}:{port}"
    WebRules((entry,)).check(place)
    WebRules(("other.example", entry)).check(place)
    for other in (
        (),
        ("other.example",),
        (f"sub.{host}" if host.endswith(".org") else "1.1.1.1",),
        (f"{host}:{place.port ^ 1}",),
    ):
        with pytest.raises(FetchRefused, match=r"not an allowed host \(sandbox\.allow_hosts"):
            WebRules(other).check(place)


@settings(deadline=None)
@given(hosts, ports, ports)
def test_a_host_without_a_port_opens_the_usual_ports_alone(host, port, other):
    rules = WebRules((host,))
    for scheme, usual in (("http", 80), ("https", 443)):
        rules.check(place_of(f"{scheme}://{host}"))
        if port != usual:
            with pytest.raises(FetchRefused):
                rules.check(place_of(f"{scheme}://{host}:{port}"))


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_place_or_refused(text):
    try:
        place = place_of(text)
    except FetchRefused:
        return
    assert place_of(f"{place.scheme}://{f'[{place.host}]' if ':' in place.host else place.host}:{place.port}") == Place(
        place.scheme, place.host, place.port, "/"
    )


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.org/", "file:///etc/passwd", "a.org/x", "//a.org/", "http:///x", "http://", "",
        "http://user@a.org/", "http://a.org:b@c.org/", "http://a.org\\@c.org/", "http://a.org /", "http://a.org/\n",
        "http://\u0430.org/", "http://a.org/\u00e9", "http://a.org:99999/", "http://a.org:x/", "http://[::1/",
        "http://[fe80::1%25eth0]/", "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/",
        "http://a..org/", "http://-a.org/", "http://a.org./", f"http://{'a' * 64}.org/",
        "http://a.org/" + "x" * 9000,
    ],
)  # fmt: skip
def test_what_two_readers_could_read_differently_is_no_address(url):
    with pytest.raises(FetchRefused):
        WebRules(("a.org", "127.0.0.1")).check(place_of(url))


def test_letters_of_either_case_and_the_short_form_of_an_address_are_the_same_host():
    assert place_of("http://API.Example.ORG/A").host == "api.example.org"
    assert place_of("http://[0:0:0:0:0:0:0:1]:8080/").host == "::1"
    WebRules(("API.example.org", "[::1]:8080")).check(place_of("http://[0::1]:8080/"))


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "*.org",
        "http://a.org",
        "a.org/",
        "a.org/x",
        "a.org?",
        "a.org#",
        "u@a.org",
        "a.org:",
        "a.org:http",
        "a b",
        "",
    ],
)
def test_an_entry_that_is_no_exact_host_is_refused(entry):
    with pytest.raises(ValueError, match=r"."):
        host_of(entry)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Fetch("http://a.org", "DELETE"), "no method"),
        (Fetch("http://a.org", "get"), "no method"),
        (Fetch("http://a.org", body=b"x"), "only POST"),
        (Fetch("http://a.org", headers={"Host": "b.org"}), "not for a harness"),
        (Fetch("http://a.org", headers={"cookie": "a=b"}), "not for a harness"),
        (Fetch("http://a.org", headers={"Transfer-Encoding": "chunked"}), "not for a harness"),
        (Fetch("http://a.org", headers={"a b": "c"}), "not for a harness"),
        (Fetch("http://a.org", headers={"a": "b\r\nhost: c"}), "a line of ASCII"),
        (Fetch("http://a.org", headers={"a": "\u00e9"}), "a line of ASCII"),
        (Fetch("http://a.org", headers={f"a{i}": "b" for i in range(33)}), "more than 32"),
    ],
)
def test_a_request_says_nothing_that_only_the_host_may_say(request_, said):
    with pytest.raises(FetchRefused, match=said):
        check_request(request_)


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text(), min_size=1), st.sampled_from(["http://a.org/", "http://a.org/?x=1"]))
def test_a_query_is_encoded_so_that_any_text_can_be_asked_for(query, url):
    place_of(Fetch.of(url, query={k: v.encode(errors="ignore").decode() for k, v in query.items() if k.isascii()}).url)


@settings(deadline=None)
@given(st.binary(), st.dictionaries(st.text(), st.text()))
def test_an_answer_comes_back_from_json_byte_for_byte(body, headers):
    fetched = Fetched(200, headers, body, "http://a.org/", ("http://b.org/",))
    assert Fetched.from_json(json.loads(json.dumps(fetched.to_json()))) == fetched


def test_equal_requests_have_equal_digests_and_others_others():
    one = Fetch.of("http://a.org", headers={"A": "1", "b": "2"})
    assert one.digest == Fetch.of("http://a.org", headers={"B": "2", "a": "1"}).digest
    others = [Fetch.of("http://a.org"), Fetch.of("http://a.org", "POST"), Fetch.of("http://a.org", "POST", body="x")]
    assert len({request.digest for request in (one, *others)}) == 4


@settings(deadline=None)
@given(st.binary())
def test_secrets_of_an_answer_are_gone_whatever_its_encoding_and_the_rest_is_as_it_was(noise):
    key = "sk-" + "a1" * 20
    redact = Redactor()
    fetched = Fetched(200, {"set": key}, noise + b" " + key.encode() + b" " + noise, f"http://a.org/{key}", (key,))
    clean = cleaned(fetched, redact)
    assert key not in json.dumps(clean.to_json())
    assert REDACTED.encode() in clean.body
    assert cleaned(clean, redact) == clean
    plain = Fetched(200, {}, noise)
    assert cleaned(plain, redact) == plain or redact(noise.decode("latin-1")) != noise.decode("latin-1")
