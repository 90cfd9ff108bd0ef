"""Text helpers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import text as helpers
from app.text import normalise


@pytest.mark.parametrize(
    "given_text, expected",
    [
        ("\u201cIt\u2019s\u201d \u2018so\u2019", "\"It's\" 'so'"),
        ("one \u2014 two\u2014three -- four", "one--two--three--four"),
        ("wait\u2026 what. . . now", "wait... what... now"),
        ("a\u00a0b\u2009c   d\te", "a b c d e"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("one\n\n\n\n \n two \n", "one\n\ntwo"),
        ("e\u0301 \u00ad\u200bx\x00\x1b", "\u00e9 x"),
        ("\ufb01nd o\ufb03ce dis\ufffetribution", "find office distribution"),
        ("1914\u20131918, a \u2013 b, x\u2013y", "1914-1918, a--b, x-y"),
        ("\u2022 item\n\uf0b7 item", "- item\n- item"),
        ("- item\n-- not\n--- rule", "- item\n-- not\n--- rule"),
        (
            "Ars\u00c3\u00a8ne caf\u00c3\u00a9 \u00e2\u20ac\u0153hi\u00e2\u20ac\u009d",
            'Ars\u00e8ne caf\u00e9 "hi"',
        ),
        ("MANH\u00c3\u201d \u00e9 \u00e7", 'MANH\u00c3" \u00e9 \u00e7'),
        ("verse one,\nverse two", "verse one,\nverse two"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
    ],
)
def test_normalise(given_text: str, expected: str) -> None:
    assert normalise(given_text) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet=" .-\n\t\u2013\u2014\u2026\u2022a1\u00a0\u0301\u200be", max_size=40),
    )
)
def test_normalise_is_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert "\n\n\n" not in once
    assert "  " not in once
    assert once == once.strip(" \n")


def test_one_line_and_shorten() -> None:
    assert helpers.one_line(" A\n title \u2014 long ") == "A title--long"
    assert helpers.shorten("short", 10) == "short"
    assert helpers.shorten("some words that are long", 15) == "some words..."
    assert helpers.shorten("x" * 50, 10) == "x" * 7 + "..."


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80), st.integers(4, 60))
def test_shorten_keeps_the_limit(text: str, limit: int) -> None:
    assert len(helpers.shorten(text, limit)) <= limit


def test_escape() -> None:
    assert helpers.escape("<b onclick='x' y=\"z\">&") == "&lt;b onclick=&#x27;x&#x27; y=&quot;z&quot;&gt;&amp;"
    assert helpers.escape(3) == "3"
    assert helpers.escape_lines("a\n<b>") == "a<br>&lt;b&gt;"


@pytest.mark.parametrize(
    "size, words",
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (1536, "1.5 kB"), (9960, "10 kB"),
     (999_600, "1.0 MB"), (100_000_000, "100 MB"), (2e9, "2.0 GB"), (5e15, "5,000 TB")],
)  # fmt: skip
def test_sizes(size: float, words: str) -> None:
    assert helpers.size_words(size) == words


@pytest.mark.parametrize(
    "seconds, words",
    [(-1, "0.0 s"), (0.42, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"),
     (185, "3 min 05 s"), (3599.7, "1 h 00 min"), (7800, "2 h 10 min")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert helpers.duration_words(seconds) == words


@pytest.mark.parametrize(
    "seconds, words", [(0, "less than a second"), (0.99, "less than a second"), (1, "1.0 s"), (75, "1 min 15 s")]
)
def test_waits(seconds: float, words: str) -> None:
    assert helpers.wait_words(seconds) == words


@pytest.mark.parametrize(
    "value, words", [(0, "0"), (12345, "12,345"), (0.254, "0.254"), (3.14159, "3.14"), (1234.5, "1,234")]
)
def test_numbers(value: float, words: str) -> None:
    assert helpers.number_words(value) == words


def test_plural() -> None:
    assert helpers.plural(1, "chunk") == "1 chunk"
    assert helpers.plural(2000, "chunk") == "2,000 chunks"
    assert helpers.plural(2, "query", "queries") == "2 queries"
