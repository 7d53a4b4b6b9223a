"""The page of a report, opened in a real browser: it loads and runs nothing, shows what the document says, and is readable everywhere."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.chains import write_chain, write_rejected
from fakes.chromium import Page, browser
from fakes.trained_chains import write_trained_chain

from interlock.voice import human
from pipeline.lineage import lineage_of
from pipeline.reports.document import Document, Proof, document_of
from pipeline.reports.page import lineage_page, report_page

# A page is the same in both environments: one browser is enough.
pytestmark = pytest.mark.train

HOSTILE = (
    "</style><script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "javascript:alert(3)", "\x1b[2J\x1b]8;;http://evil.example\x07",
    "\u202etxt.exe\u2066", "{{ 7*7 }}{% raw %}", "<svg onload=alert(4)>", "--><!--", "]]>", "'; alert(5); '", "<base href=//evil.example>",
    '<meta http-equiv=refresh content="0;url=//evil.example">', "<link rel=stylesheet href=//evil.example/a.css>", "url(//evil.example/b.png)",
)  # fmt: skip


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def everything(kind: str, document: dict[str, Any]) -> None:
    """The toy with what it lacks: a rejected length, a message that is not known, a compression with a frontier, a value that is not finite."""
    if kind == "export":
        document["shape_validation"]["results"]["512"] = {"status": "rejected", "error": "51.2 dB, at least 70", "psnr_db": 51.2}
        document["shape_validation"]["all_ok"] = False
    if kind == "package":
        document["messages"].append({"text": "something new", "count": 2, "harmless": None})
        points = [(100, 0.05, 0.04), (150, 0.01, None), (200, 1e-4, 2e-4)]
        forms = {"int8 blocks of 64": 3}
        document["compression"] |= {
            "method": "int8",
            "target_kl": 0.02,
            "weights": {"embed.weight": {"shape": [300, 64], "form": "int8 blocks of 64", "bits": 8.25, "snr_db": 43.1}},
            "frontier": [
                {"weight_bytes": size * 1000, "kl_predicted": kl, "kl_measured": measured, "forms": forms, "chosen": size == 150}
                for size, kl, measured in points
            ],
        }


def documented(folder: Path, runs: bool = True) -> Document:
    lineage = lineage_of(folder / "deployed")
    made = dict.fromkeys(lineage.artifacts, (12.25, 700_000_000)) if runs else {}
    return document_of(folder / "deployed", lineage, Proof(()), made)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    folder = tmp_path_factory.mktemp("chain")
    made = write_trained_chain(folder, everything)
    write_rejected(folder / "rejected" / "four", made["package"])
    return documented(folder)


@pytest.fixture(scope="module")
def file(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(report_page(document), encoding="utf-8")
    return file


def texts(page: Page, selector: str) -> list[list[str]]:
    """The cells of each row that a selector finds."""
    script = f"[...document.querySelectorAll({json.dumps(selector)})].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    found: list[list[str]] = page.evaluate(script)
    return found


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(item => { item.open = true })")


def test_the_page_loads_nothing_and_complains_of_nothing(page: Page, file: Path) -> None:
    page.open(file)
    assert page.seen.requests == [file.as_uri()]
    assert page.seen.complaints == [] and page.seen.dialogs == []
    assert page.evaluate("document.scripts.length") == 0
    policy = page.evaluate("document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_the_browser_would_have_told(page: Page, tmp_path: Path) -> None:
    """What the other tests find absent is seen where it is present."""
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><script>alert('hello')</script><script>nothing()</script><img src=missing.png>")
    page.open(bad)
    assert page.seen.dialogs == ["hello"] and any("missing.png" in url for url in page.seen.requests)
    assert any("nothing" in text for text in page.seen.complaints)


def test_sections_stand_in_order_verdict_first(page: Page, file: Path) -> None:
    page.open(file)
    assert page.evaluate("[...document.querySelectorAll('h1, h2')].map(item => item.innerText)") == [
        "deployed", "Verdict", "Lineage", "Training", "Package gate", "Lengths", "Sizes", "Times and memory", "Converter messages",
        "Rejected candidates",
        "Environments",
    ]  # fmt: skip
    shown = page.evaluate("document.body.innerText")
    for text in ("verified, toy", "hardware_verified is null", "nothing is signed", "lengths 512: rejected", "51.2 dB, at least 70", "not known"):
        assert text in shown, text


def test_figures_are_those_of_the_json(page: Page, file: Path, document: Document) -> None:
    told = json.loads(document.model_dump_json())
    page.open(file)
    open_all(page)

    def figure(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    evidence = told["packages"][0]["gate"]["evidence"]
    rows = texts(page, "#gates ~ .columns ~ details [data-evidence]")
    assert [row[4:8] for row in rows] == [
        [figure(item["psnr_db"], ".1f"), figure(item["worst_db"], ".1f"), figure(item["kl_mean"], ".1e"), figure(item["kl_max"], ".1e")]
        for item in evidence
    ]
    assert [row[1] for row in rows] == [item["output"] for item in evidence]
    lengths = told["shapes"][0]["validation"]["results"]
    assert [(row[0], row[2]) for row in texts(page, "[data-length]")] == [(name, figure(item["psnr_db"], ".1f")) for name, item in lengths.items()]
    assert [row[1] for row in texts(page, "[data-artifact]")] == [human(item["bytes"], "B") for item in told["artifacts"] if item["files"]]
    assert [row[2] for row in texts(page, "[data-run]")] == [f"{run['wall_s']:.1f} s" for run in told["runs"]]
    assert [row[0] for row in texts(page, "[data-message]")] == [str(item["count"]) for item in told["packages"][0]["messages"]]
    digests = page.evaluate("[...document.querySelectorAll('.chain > li > code')].map(item => item.innerText)")
    assert digests == [item["digest"] for item in told["artifacts"]]


def test_a_training_is_told_as_its_contract_says(page: Page, file: Path, document: Document) -> None:
    """Every way of answering with every share; every curve and the points of the reliability plot drawn."""
    page.open(file)
    (trained,) = document.trainings
    shown = [[way, *(f"{100 * shares[depth]:.1f} %" if depth in shares else "–" for depth in ("1", "2", "10"))]
             for way, shares in trained.training.accuracy.items()]  # fmt: skip
    shown = [row + costs for row, costs in zip(shown, [["12.5", "12.5"], ["2.0", "6.2"], ["–", "–"]], strict=True)]
    assert texts(page, "[data-way]") == shown
    titles = page.evaluate("[...document.querySelectorAll('#training ~ .columns figcaption')].map(item => item.innerText)")
    assert titles == [
        "Loss of batches", "Validation loss by number of slots", "Right answers while training, text", "Right answers while training, spans",
        "Learning rate", "Reliability of the halt head",
    ]  # fmt: skip
    curves = page.evaluate(
        """[...document.querySelectorAll('[data-curve]')].map(group => {
            const path = group.querySelector('path'), frame = path.ownerSVGElement.viewBox.baseVal, box = path.getBBox()
            return [getComputedStyle(path).fill, getComputedStyle(path).stroke, box.x >= 0 && box.x + box.width <= frame.width
                && box.y >= 0 && box.y + box.height <= frame.height]
        })"""
    )
    assert len(curves) == 4 + 4 + 1 + 2 + 1 + 1
    assert all(fill == "none" and stroke != "none" and inside for fill, stroke, inside in curves)
    assert "shown: on the rows with most steps" in page.evaluate("document.body.innerText")


def test_marks_stand_where_the_figures_say(page: Page, file: Path, document: Document) -> None:
    """Left of the threshold's line exactly where the figure is below it; equal values at the right edge."""
    page.open(file)
    marks = page.evaluate(
        """[...document.querySelector('#gate-1-psnr-t').closest('svg').querySelectorAll('g')].map(group => {
            const box = group.children[1].getBBox(), limit = group.closest('svg').querySelector('.limit').x1.baseVal.value
            return [group.querySelector('title').textContent, box.x + box.width / 2, limit]
        })"""
    )
    gate = document.packages[0].gate
    assert len(marks) == len(gate.evidence)
    for label, x, limit in marks:
        told = label.rsplit(": ", 1)[1]
        if told == "equal":
            assert abs(x - 352) < 0.1
        else:
            assert (x >= limit) == (float(told.removesuffix(" dB")) >= gate.thresholds.psnr_db)
    ordered = sorted((float(label.rsplit(": ", 1)[1].removesuffix(" dB")), x) for label, x, _ in marks if not label.endswith("equal"))
    assert [x for _, x in ordered] == sorted(x for _, x in ordered)


@pytest.mark.parametrize("width", [320, 375, 768, 1200])
def test_nothing_is_wider_than_the_window(page: Page, file: Path, width: int) -> None:
    page.open(file, width)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # what is wider scrolls in its own box, which the keyboard reaches
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.getAttribute('aria-label'))")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_enough_contrast(page: Page, file: Path, dark: bool) -> None:
    """WCAG 2.1, 1.4.3: 4.5 to 1 for text, against the first opaque background behind it."""
    page.open(file, dark=dark)
    open_all(page)
    poor = page.evaluate(
        """(() => {
            const parts = color => color.match(/[\\d.]+/g).map(Number)
            const light = color => { const [r, g, b] = parts(color).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
                return .2126 * r + .7152 * g + .0722 * b }
            const behind = node => { for (; node; node = node.parentElement) { const c = getComputedStyle(node).backgroundColor
                if (parts(c).length === 3) return c } return getComputedStyle(document.body).backgroundColor }
            const found = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
            while (walker.nextNode()) {
                const node = walker.currentNode.parentElement
                if (!walker.currentNode.data.trim() || ['TITLE', 'DESC', 'STYLE', 'title', 'desc'].includes(node.tagName)) continue
                const style = getComputedStyle(node), ink = node.ownerSVGElement ? style.fill : style.color
                const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x)
                if ((a + .05) / (b + .05) < 4.5) found.add(`${node.className.baseVal ?? node.className}: ${ink} on ${behind(node)}`)
            }
            return [...found]
        })()"""
    )
    assert poor == []
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") is not dark


def test_a_reader_who_does_not_see_is_told_the_same(page: Page, file: Path) -> None:
    page.open(file)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(item => item.id)")
    assert len(set(ids)) == len(ids)
    assert page.evaluate(
        """[...document.querySelectorAll('svg[role=img]')].every(image => image.getAttribute('aria-labelledby').split(' ')
            .every(id => document.getElementById(id)?.textContent.length > 20))"""
    )
    assert page.evaluate("[...document.querySelectorAll('svg')].every(image => image.getAttribute('role') || image.getAttribute('aria-hidden'))")
    assert page.evaluate("[...document.querySelectorAll('th')].every(cell => cell.scope)")
    assert page.evaluate("[...document.querySelectorAll('a')].every(link => document.getElementById(link.hash.slice(1)))")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(item => Number(item.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_paper_shows_what_the_screen_folds_away(page: Page, file: Path, tmp_path: Path) -> None:
    page.open(file, dark=True)
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.evaluate("[...document.querySelectorAll('details [data-evidence]')].every(row => row.getBoundingClientRect().height > 5)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.printed(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_equal_documents_give_equal_bytes(document: Document) -> None:
    again = Document.model_validate_json(document.model_dump_json())
    assert report_page(again) == report_page(document)


def test_without_records_the_page_says_so(tmp_path: Path) -> None:
    write_chain(tmp_path)
    assert "The build left no record of times here." in report_page(documented(tmp_path, runs=False))


def hostile(text: str) -> Any:
    """Put a text into every field of a contract that holds free text."""

    def edit(kind: str, document: dict[str, Any]) -> None:
        everything(kind, document)
        document["created_by"]["environment"] |= {"python": text, "platform": text, "packages": {text: text}}
        document["created_by"] |= {"stage": text, "project_version": text}
        if kind == "checkpoint":
            document["source"]["name"] = text
        if kind == "export":
            document["shape_validation"]["results"]["512"]["error"] = text
        if kind == "package":
            gate = document["gate"]
            gate["evidence"] = [
                {**item, "function": text, "case": text, "output": item["output"] if at else text} for at, item in enumerate(gate["evidence"])
            ]
            gate["headroom"] = [{**item, "function": text, "operation": text, "value": text} for item in gate["headroom"]]
            document["messages"] = [{"text": text, "count": 1, "harmless": text}, {"text": text, "count": 1, "harmless": None}]
            weight = document["compression"]["weights"]["embed.weight"]
            document["compression"]["weights"] = {text: {**weight, "form": text, "reason": text}}
            for point in document["compression"]["frontier"]:
                point["forms"] = {text: 1}
            document["facts"]["metadata"] = {text: text}

    return edit


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_contract_cannot_act(page: Page, tmp_path: Path, text: str) -> None:
    """Neither a script nor a request, a dialog or an escape comes of any field, nor of the names of folders."""
    folder = tmp_path / text.replace("/", "_").replace("\0", "")[:60]
    made = write_chain(folder, hostile(text))
    write_rejected(folder / "rejected" / "x", made["package"], (text,) * 9)
    document = documented(folder)
    for number, made_page in enumerate((report_page(document), lineage_page(document.directory, document.artifacts, document.rejected))):
        file = tmp_path / f"{number}.html"
        file.write_text(made_page, encoding="utf-8")
        page.open(file)
        open_all(page)
        assert page.seen.requests == [file.as_uri()]
        assert page.seen.complaints == [] and page.seen.dialogs == []
        assert page.evaluate("document.querySelectorAll('script, img, iframe, base, link[rel=stylesheet], [onerror], [onload]').length") == 0
        assert page.evaluate("[...document.querySelectorAll('a')].every(link => link.getAttribute('href').startsWith('#'))")
        assert page.evaluate("location.href") == file.as_uri() and page.evaluate("document.querySelectorAll('main').length") == 1
        assert not set("\x1b\x07\u202e\u2066") & set(made_page)
        if text.isprintable():
            assert text in page.evaluate("document.querySelector('#lineage').closest('section').innerText"), "shown as it is written"
