"""
URLs: what they mean, and what is wrong with those that mean nothing.
"""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from rpcstream.errors import ConfigurationError
from rpcstream.net.urls import DEFAULT_PORT, Url, parse_url

GOOD = {
    "rpcstream+tls://host/disk": Url("tls", "host", DEFAULT_PORT, "disk"),
    "rpcstream+tls://host": Url("tls", "host", DEFAULT_PORT),
    "rpcstream+tls://host/": Url("tls", "host", DEFAULT_PORT),
    "RPCSTREAM+TLS://host.example:1/x": Url("tls", "host.example", 1, "x"),
    "rpcstream+tls://h/x?pool=fast&pkipath=/etc/p%26q": Url("tls", "h", 16514, "x", "fast", None, "/etc/p&q"),
    "rpcstream+tcp://127.0.0.1:16509/a%20b": Url("tcp", "127.0.0.1", 16509, "a b"),
    "rpcstream+tls://[::1]/x": Url("tls", "::1", 16514, "x"),
    "rpcstream+tls://[::1]:7/x": Url("tls", "::1", 7, "x"),
    "rpcstream+tls://[fe80::1%25eth0]/x": Url("tls", "fe80::1%eth0", 16514, "x"),
    "rpcstream+tls://bücher.example/x": Url("tls", "bücher.example", 16514, "x"),
    "rpcstream+tls://under_score.:5": Url("tls", "under_score.", 5),
    "rpcstream+unix:///disk?socket=/run/s": Url("unix", "", 0, "disk", "", "/run/s"),
    "rpcstream+unix://?socket=a%2Fb+c": Url("unix", "", 0, "", "", "a/b+c"),
    # Names are judged by the store, on both ends: here they only arrive unchanged.
    "rpcstream+tls://h/../x": Url("tls", "h", 16514, "../x"),
    "rpcstream+tls://h//etc/passwd": Url("tls", "h", 16514, "/etc/passwd"),
    "rpcstream+tls://h/%00%C3%A4": Url("tls", "h", 16514, "\0ä"),
}

BAD = {
    "": "must look like",
    "host/disk": "must look like",
    "http://host/x": "must look like",
    "rpcstream+ssh://host/x": "must look like",
    "rpcstream+tls:host/x": "must look like",
    "tls://host/x": "must look like",
    "rpcstream+tls:///x": "names no host",
    "rpcstream+tls://:5/x": "names no host",
    "rpcstream+tls://host:/x": "port ''",
    "rpcstream+tls://host:0/x": "from 1 to 65535",
    "rpcstream+tls://host:65536/x": "from 1 to 65535",
    "rpcstream+tls://host:-1/x": "port '-1'",
    "rpcstream+tls://host:١/x": "is not a number",
    "rpcstream+tls://user@host/x": "user name",
    "rpcstream+tls://::1/x": "[ADDRESS]",
    "rpcstream+tls://[::1/x": "[ADDRESS]",
    "rpcstream+tls://[::1]x/x": "[ADDRESS]",
    "rpcstream+tls://[host]/x": "not an IPv6 address",
    "rpcstream+tls://ho st/x": "not a host name",
    "rpcstream+tls://host%00/x": "not a host name",
    "rpcstream+tls://h/x#y": "%23",
    "rpcstream+tls://h/x\n": "control character",
    "rpcstream+tls://h/100%": "%25",
    "rpcstream+tls://h/%zz": "%25",
    "rpcstream+tls://h/%ff": "not UTF-8",
    "rpcstream+tls://h/x?speed=1": "'speed' is not known; known: pool, pkipath",
    "rpcstream+tls://h/x?pool": "no value",
    "rpcstream+tls://h/x?pool=": "no value",
    "rpcstream+tls://h/x?pool=a&pool=b": "given twice",
    "rpcstream+tls://h/x?socket=/s": "'socket' is not known",
    "rpcstream+tcp://h/x?pkipath=/p": "'pkipath' is not known",
    "rpcstream+unix:///x": "names no socket",
    "rpcstream+unix://host/x?socket=/s": "no host",
    "rpcstream+unix:///x?socket=/%00": "NUL",
    "rpcstream+unix:///x?socket=/" + "s" * 107: "longer than 107 bytes",
}


class UrlTests(TestCase):
    def test_good(self) -> None:
        """Each form gives its fields."""
        for text, url in GOOD.items():
            with self.subTest(text):
                self.assertEqual(parse_url(text), url)

    def test_bad(self) -> None:
        """Each fault is named, in one line."""
        for text, words in BAD.items():
            with self.subTest(text):
                with self.assertRaises(ConfigurationError) as caught:
                    parse_url(text)
                self.assertIn(words, str(caught.exception))
                self.assertNotIn("\n", str(caught.exception))

    def test_where(self) -> None:
        """A peer's place, for messages."""
        self.assertEqual(Url("tls", "h", 5).where, "h:5")
        self.assertEqual(Url("tls", "::1", 5).where, "[::1]:5")
        self.assertEqual(Url("unix", "", 0, socket="/s").where, "/s")

    def test_text_round_trip_of_examples(self) -> None:
        """str() gives a URL of the same meaning."""
        for url in GOOD.values():
            self.assertEqual(parse_url(str(url)), url)

    @settings(max_examples=200, derandomize=True, database=None)
    @given(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
    def test_text_round_trip(self, name: str, pool: str) -> None:
        """Any name survives."""
        url = Url("tls", "host", 5, name, pool)
        self.assertEqual(parse_url(str(url)), url)

    @settings(max_examples=300, derandomize=True, database=None)
    @given(st.text())
    def test_any_text_is_a_url_or_our_error(self, text: str) -> None:
        """Nothing but ConfigurationError comes out."""
        for prefix in ("", "rpcstream+tls://", "rpcstream+unix://?socket="):
            try:
                parse_url(prefix + text)
            except ConfigurationError as error:
                self.assertTrue(str(error))
