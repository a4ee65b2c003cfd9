"""One document in every rendering: the same digits, and in HTML each number's source."""

from __future__ import annotations

import pandas as pd

from mlscale.reporting.document import Document, Section, Source, Text, table
from mlscale.reporting.render import to_html, to_markdown, to_text

SOURCE = Source("figures/results.json", "make paper", "effects")
FRAME = pd.DataFrame({"value": [1234.56, float("nan"), 0.12345]}, index=pd.Index(["a", "b", "c"], name="what"))


def page(text: str, source: Source | None = SOURCE, root: str = "../") -> str:
    return to_html(Document("t", [Section("", [Text([text], source=source)])]), root).partition("<body>")[2]


def test_a_table_has_the_same_digits_everywhere() -> None:
    shown = table("Means", FRAME)
    assert (
        to_markdown([shown])
        == "**Means**\n\n| what | value |\n| --- | --- |\n| a | 1235 |\n| b | - |\n| c | 0.1235 |\n"
    )
    document = Document("t", [Section("A cell", [shown, Text(["beware"], "note")])])
    assert to_text(document).splitlines()[:4] == ["A cell", "======", "", "Means"]
    for rendering in (to_text(document), to_html(document)):
        assert "1235" in rendering
        assert "0.1235" in rendering
    assert "note: beware" in to_text(document)


def test_styles_of_text_in_markdown() -> None:
    parts = [Text(["one", "two"], "list"), Text(["small"], "note"), Text(["words"])]
    assert to_markdown(parts) == "- one\n- two\n\n*small*\n\nwords\n"


def test_a_number_leads_to_an_entry_with_file_field_and_command() -> None:
    html = page("1.76 (1.56 to 1.99) & more")
    assert '<a href="#s1">1.76</a> (<a href="#s1">1.56</a> to <a href="#s1">1.99</a>) &amp; more' in html
    entry = html.partition('<li id="s1">')[2]
    assert entry.startswith("1.76, 1.56, 1.99<br>")
    assert '<a href="../figures/results.json"><code>figures/results.json</code></a>: effects' in entry
    assert "<code>make paper</code>" in entry
    assert "<li id=" not in page("1.76", source=None)
    assert 'href="figures' not in page("1.76", root="")


def test_code_and_bold_are_html_and_the_rest_is_text() -> None:
    assert "<b>Not</b> <code>core</code> &lt;b&gt;" in page("**Not** `core` <b>")


def test_names_are_no_numbers() -> None:
    assert "<a" not in page("k3s: P1 of other-1 <it's>")
    html = page("-0.04 with v1.34.4 on 2026-02-01 by f81e7adabc18")
    for number in ("-0.04", "v1.34.4", "2026-02-01", "f81e7adabc18"):
        assert f">{number}</a>" in html
