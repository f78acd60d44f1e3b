"""How things are shown: aligned text, colour, harmless characters, durations."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from meshd.cli.output import clean, duration, mebibytes, percent, plain_table, rich_table, shown


def test_columns_are_aligned_and_end_without_spaces() -> None:
    table = plain_table(("slug", "title", "n"), [("a", "A longer title", "1"), ("longer-slug", "B", "")])

    assert table.splitlines() == [
        "slug         title           n",
        "a            A longer title  1",
        "longer-slug  B",
    ]


def test_wide_and_combining_characters_keep_the_columns_aligned() -> None:
    table = plain_table((), [("日本", "x"), ("e\u0301a", "x"), ("four", "x")])

    assert table.splitlines() == ["日本  x", "e\u0301a    x", "four  x"]


def test_a_table_without_rows_is_its_headers() -> None:
    assert plain_table(("one", "two"), []) == "one  two"


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\rb", "a\x07b", "a\u202eb", "a\x9b2Jb"])
def test_what_a_terminal_would_obey_is_replaced(text: str) -> None:
    assert clean(text)[0] == "a"
    assert clean(text)[-1] == "b"
    assert clean(text).isprintable()
    assert "�" in clean(text)


def drawn(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    file = StringIO()
    Console(file=file, force_terminal=True, width=60, highlight=False, _environ={"TERM": "xterm"}).print(
        rich_table(headers, rows)
    )
    return file.getvalue()


def test_a_word_with_a_meaning_has_its_colour() -> None:
    assert "\x1b[32monline\x1b[0m" in drawn(("instance", "status"), [("dev-01", "online")])
    assert "\x1b[31moffline\x1b[0m" in drawn(("instance", "status"), [("dev-01", "offline")])


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=60, _environ={"TERM": "xterm", "NO_COLOR": "1"})

    console.print(rich_table(("instance", "status"), [("dev-01", "online")]))

    assert "online" in file.getvalue()
    assert "\x1b[32m" not in file.getvalue()


def test_markup_in_a_text_stays_text() -> None:
    assert "[bold]x[/bold]" in drawn(("title",), [("[bold]x[/bold]",)])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"),
        (360_000, "4 d 4 h"),
    ],
)
def test_durations_are_in_their_two_largest_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1.5, "1.5"),
        ("text", "text"),
        (["a", "b"], "a, b"),
        ({"a": "é"}, '{"a": "é"}'),
        ([1, {"a": 2}], '[1, {"a": 2}]'),
    ],
)
def test_values_as_cells(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_sizes_and_percentages() -> None:
    assert mebibytes(55 * 1_048_576) == "55 MiB"
    assert percent(12.4) == "12 %"
    assert percent(None) == "-"


def test_names_in_a_table_of_pairs_have_no_meaning() -> None:
    assert "\x1b[2mprimary\x1b[0m" in drawn((), [("primary", "dev-01")])
