"""`make paper`: every number of the document is taken from data, and leads to the command that makes it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from mlscale_paper import places
from mlscale_paper.manuscript.build import FILES, TEMPLATE, make
from mlscale_paper.manuscript.numbers import Numbers, field_of, plain, shown

pytestmark = pytest.mark.skipif(not places.reference().is_dir(), reason="no runs are published in data/reference yet")
# Names, labels and hashes, the only digits that may be typed.
NAMES = re.compile(
    r"\b(?:[PF][1-4]|EC2|code-reader [\w.+]*\w|K3s|k3s|x86_64|schroeder2023|s\d+|sha256|[0-9a-f]{8,}"
    r"|[\w./-]*ec2[\w./-]*)\b"
)
DIGIT = re.compile(r"[^\s]*\d[^\s]*")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("paper")
    assert make(out) == [out / "paper.pdf", out / "paper.html"]
    return out


class Text(HTMLParser):
    """The document's text without what leads somewhere, formulas, numbered headings and figures, and references."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self._skipped = 0
        self._ended = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        self._ended |= found.get("id") == "sources" or found.get("role") == "doc-bibliography"
        self._skipped += tag in ("a", "math", "style")
        if (found.get("href") or "").startswith("#s"):
            self.targets.add(str(found["href"])[1:])

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in ("a", "math", "style")

    def handle_data(self, data: str) -> None:
        if not self._skipped and not self._ended:
            self.outside.append(re.sub(r"^(?:\d+\. |(?:Figure|Table)\s\d+: )", "", data))


def read(html: str) -> Text:
    text = Text()
    text.feed(html)
    return text


def typed_digits(template: str) -> list[str]:
    """Digits of a template outside what is filled in, apart from names."""
    filled_in = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template, flags=re.DOTALL)
    return DIGIT.findall(NAMES.sub("", re.sub(r"columns: \d,", "", filled_in)))


def test_no_number_is_typed_in_the_template() -> None:
    template = files("mlscale_paper.manuscript").joinpath(TEMPLATE).read_text()
    assert not typed_digits(template)
    assert typed_digits(template.replace("*Abstract.*", "*Abstract.* 37 runs.")) == ["37"]


def test_every_number_of_the_document_leads_to_an_entry(built: Path) -> None:
    html = (built / "paper.html").read_text()
    text = read(html)
    assert not [word for part in text.outside for word in DIGIT.findall(NAMES.sub("", part))]
    assert len(text.targets) > 40
    assert text.targets <= text.ids, "each entry exists"
    typed = read(html.replace("<strong>Abstract.</strong>", "<strong>Abstract.</strong> Of 38 runs"))
    assert any("38" in part for part in typed.outside), "a typed number would be found"


def test_the_document_is_whole(built: Path) -> None:
    html = (built / "paper.html").read_text()
    assert html.count("data:image/svg+xml") == 5
    assert html.count("<img") == html.count(' alt="'), "every figure has a description"
    assert not re.search(r'(?:src|href)="http[^"]*\.(?:css|js|woff2?)"', html)
    assert (built / "paper.pdf").read_bytes().startswith(b"%PDF")
    for word in ("Rehearsal", "SIMULATED, not measured", "not validated", "can neither be reproduced nor refuted"):
        assert word in html, word


def test_figures_for_print_are_a_column_wide_with_embedded_fonts(built: Path) -> None:
    for name in ("trajectory", "effects", "cost", "boots", "claims"):
        pdf = (built / f"{name}.pdf").read_bytes()
        width_in = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf)[1]) / 72  # type: ignore[index]
        assert width_in < (7.4 if name == "claims" else 3.6), name
        assert b"/Type3" not in pdf
        assert b"/FontFile2" in pdf, name


def test_a_number_is_the_field_that_its_entry_names() -> None:
    contents = {"results": json.loads((places.figures() / "results.json").read_text())}
    numbers = Numbers(contents, FILES)
    markup = numbers.value("results", "effects.0.ratio", ".2f")
    assert markup == f'#number("{contents["results"]["effects"][0]["ratio"]:.2f}", <s1>);'
    [(source, values)] = numbers.sources
    assert (source.file, source.command) == FILES["results"]
    named: Any = field_of(json.loads((places.checkout() / source.file).read_text()), source.field)
    assert values == [shown(named, ".2f")]
    with pytest.raises(KeyError):
        numbers.value("results", "effects.0.nothing")


def test_names_are_no_numbers_and_text_is_shown_as_it_is() -> None:
    numbers = Numbers({}, {"core": ("data/reference/core", "make paper")})
    assert numbers.text("k3s: P1", "core", "names") == plain("k3s: P1") == '#"k3s: P1";'
    assert not numbers.sources
    assert numbers.text('-0.04 "to" v1.34.4', "core", "x") == (
        '#number("-0.04", <s1>);#" \\"to\\" ";#number("v1.34.4", <s1>);'
    )
