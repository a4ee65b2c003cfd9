"""`make paper`: every number of the page leads to its data and to the command behind it."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from browser import browser, needs_browser
from mlscale.reporting.document import Document
from mlscale.runs import MlscaleError
from mlscale_paper import page as module
from mlscale_paper import places

pytestmark = pytest.mark.skipif(not places.reference().is_dir(), reason="no runs are published in data/reference yet")
# The only digits that may stand outside a link.
NAMES = re.compile(
    r"\b(?:[PF][1-4]|EC2|K3s|k3s|x86_64|arXiv 2311\.18659|other-\d|ec2-coldboot-research|make_float32_decoder|sha256)\b"
)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BROWSERS", ())
        page, pdf = module.make(out)
    assert pdf is None, "without a browser"
    assert not re.search(r'href="(?!#)', page.read_text()), "outside the checkout, no folder of this machine is named"
    return page.read_text()


class Page(HTMLParser):
    """The text outside links and headings and before the entries; where links lead, and the entries."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self._skipped = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found.get("id") or ""} - {""}
        self._skipped += tag in ("a", "h3", "style", "th", "ol")
        if (found.get("href") or "").startswith("#"):
            self.targets.add(str(found["href"])[1:])

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in ("a", "h3", "style", "th", "ol")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.outside.append(data)


def typed(html: str) -> list[str]:
    """Words with a digit that is no link."""
    return [word for part in Page(html).outside for word in re.findall(r"\S*\d\S*", NAMES.sub("", part))]


def test_every_number_leads_to_an_entry(html: str) -> None:
    assert not typed(html)
    assert "38" in typed(html.replace("Which autoscaling", "Of 38 runs, which autoscaling"))
    found = Page(html)
    assert len(found.targets) > 12
    assert found.targets == found.ids


def test_each_entry_names_a_file_that_is_there(html: str) -> None:
    for file, command in module.SOURCES.values():
        assert (places.checkout() / file).exists(), file
        assert f"<code>{command}</code>" in html


def test_the_page_is_whole(html: str) -> None:
    assert html.count("data:image/png") == html.count(' alt="') == 6
    assert not re.search(r'(?:src|href)="http', html)
    for word in ("rehearsal", "not validated", "can neither be reproduced nor refuted", "Threats to validity"):
        assert word.lower() in html.lower(), word


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_no_wider_than_the_window(html: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "paper.html").write_text(html)
    with browser(tmp_path / "profile", width=width) as window:
        window.open((tmp_path / "paper.html").as_uri())
        assert window.run("return innerWidth") == width
        assert window.run("return document.documentElement.scrollWidth") <= width


def test_a_browser_prints_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document("A page", [])
    fake = tmp_path / "browser"
    fake.write_text('#!/bin/sh\nfor each; do case $each in --print-to-pdf=*) : > "${each#*=}";; esac; done\n')
    fake.chmod(0o755)
    monkeypatch.setattr(module, "BROWSERS", (str(fake),))
    pdf = module.printed(document, tmp_path / "paper.pdf")
    assert pdf
    assert pdf.exists()
    fake.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(MlscaleError, match="did not print"):
        module.printed(document, tmp_path / "paper.pdf")


@pytest.mark.skipif(not any(map(shutil.which, module.BROWSERS)), reason="no Chromium")
def test_chromium_prints_it(tmp_path: Path) -> None:
    pdf = module.printed(Document("A page", []), tmp_path / "paper.pdf")
    assert pdf
    assert pdf.read_bytes().startswith(b"%PDF")
