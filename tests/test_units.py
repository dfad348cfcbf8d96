"""Sizes, rates and durations."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from rpcstream.errors import ConfigurationError
from rpcstream.units import format_rate, format_seconds, format_size, parse_rate, parse_size


class ParseTests(TestCase):
    """Reading what people type."""

    def test_sizes(self) -> None:
        """K, M, G and T are powers of 1024, with or without iB and B."""
        for text, expected in [
            ("0", 0), ("4096", 4096), ("17B", 17), ("1K", 1024), ("1KB", 1024), ("1KiB", 1024),
            ("256M", 256 << 20), (" 256 MiB ", 256 << 20), ("1.5G", 3 << 29), ("2t", 2 << 40), ("0.3K", 307),
            (str(2**63 - 1), 2**63 - 1),
        ]:  # fmt: skip
            self.assertEqual(parse_size(text), expected, text)

    def test_not_sizes(self) -> None:
        """Anything else is refused, and the error says what was read and what is expected."""
        for text in (
            "",
            "M",
            "-1",
            "+1",
            "1e3",
            "1 X",
            "1KiBB",
            "1iB",
            ".5M",
            "1.",
            "1_000",
            "٣",
            "0x10",
            "1M/s",
        ):
            error = self.assertRaises(ConfigurationError, parse_size, text, "--size")
            self.assertIn(f"--size: {text!r} is not a number", str(error))
        self.assertIn("8 EiB", str(self.assertRaises(ConfigurationError, parse_size, str(2**63))))
        self.assertLess(len(str(self.assertRaises(ConfigurationError, parse_size, "9" * 10**6))), 200)

    def test_rates(self) -> None:
        """A rate is a size per second."""
        for text, expected in [("100M", 100 << 20), ("100 MiB/s", 100 << 20), ("1/S", 1), ("10k /s", 10240)]:
            self.assertEqual(parse_rate(text), expected, text)

    def test_not_rates(self) -> None:
        """A rate of nothing would never end."""
        for text in ("0", "0.5", "0M/s"):
            self.assertIn("no limit", str(self.assertRaises(ConfigurationError, parse_rate, text)))
        for text in ("/s", "1M/h", "1M/s/s", "1M / s"):
            self.assertRaises(ConfigurationError, parse_rate, text)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.text(max_size=12))
    def test_any_text(self, text: str) -> None:
        """Any text gives a size or our error."""
        with contextlib.suppress(ConfigurationError):
            self.assertGreaterEqual(parse_size(text), 0)


class FormatTests(TestCase):
    """Writing what people read."""

    def test_sizes(self) -> None:
        """Three significant digits, never 1024 of a unit."""
        for count, expected in [
            (0, "0 B"), (17, "17 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.50 KiB"),
            (10 * 1024 + 512, "10.5 KiB"), (1023 * 1024 + 600, "1.00 MiB"), (256 << 20, "256 MiB"),
            (2**63, "8 EiB"), (2**80, "1048576 EiB"), (123.4 * 1024, "123 KiB"),
        ]:  # fmt: skip
            self.assertEqual(format_size(count), expected, count)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(0, 2**62))
    def test_readable_again(self, count: int) -> None:
        """What was written can be read, up to its rounding."""
        text = format_size(count)
        if "PiB" not in text and "EiB" not in text:
            self.assertLessEqual(abs(parse_size(text) - count), count * 0.006 + 1)
        self.assertLessEqual(len(text), 9)

    def test_rates(self) -> None:
        """A size and a slash."""
        self.assertEqual(format_rate(980 * 2**20), "980 MiB/s")

    def test_seconds(self) -> None:
        """The longer, the coarser."""
        for seconds, expected in [
            (-1, "0.0 ms"), (0.0031, "3.1 ms"), (0.42, "0.42 s"), (9.999, "10.0 s"), (12.34, "12.3 s"),
            (59.96, "1 min 00 s"), (125, "2 min 05 s"), (3599.6, "1 h 00 min"),
            (3 * 3600 + 400, "3 h 07 min"),
            (47 * 3600, "47 h 00 min"), (3 * 86400 + 3600, "3 d 01 h"),
        ]:  # fmt: skip
            self.assertEqual(format_seconds(seconds), expected, seconds)
