"""The page of HTML, as a file and in Chromium."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from playwright.sync_api import Browser, sync_playwright

from service.report.tables import duration
from tests.report.test_figures import Lines, called, ended, moment
from tests.support.debian import need


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = need("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(run: Callable[..., Result], tmp_path: Path) -> Callable[..., Path]:
    """Write the page of files."""

    def write(*files: object) -> Path:
        path = tmp_path / "report.html"
        result = run("--html", path, *files)
        assert (result.exit_code, result.output) == (0, "")
        return path

    return write


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_opens_offline(page: Callable[..., Path], browser: Browser, scheme: str, width: int) -> None:
    file = page("docs/sample.jsonl.gz")
    context = browser.new_context(
        offline=True,
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": width, "height": 900},
    )
    opened = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.goto(file.as_uri())
    assert requests == [file.as_uri()]
    assert complaints == []
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert opened.locator("svg").count() == 3
    fill = opened.locator("svg path[fill='var(--both)']").first.evaluate("element => getComputedStyle(element).fill")
    assert fill == {"light": "rgb(47, 111, 222)", "dark": "rgb(110, 163, 255)"}[scheme]
    context.close()


def test_the_page_shows_the_figures(page: Callable[..., Path]) -> None:
    text = page("docs/sample.jsonl.gz").read_text("utf-8")
    assert "<td>call and webhook</td><td class='number'>850</td>" in text
    for name, kind in (("call and webhook", "both"), ("call only", "call"), ("webhook only", "webhook")):
        bar = text.split(f"<td>{name}</td>")[1].split("</tr>")[0]
        assert re.findall(r"'(\w+)' style='width:(?!0\.00%)", bar) == [kind], "the colour of the charts' legends"
    assert "<b>10.5%</b><span>without a call</span>" in text
    assert not re.search(r'fill="(?!none|var|transparent)', text), "a colour that does not follow light and dark"
    ids = re.findall(r'\bid="(\w+)"', text)
    assert len(ids) == len(set(ids))


def test_what_lines_say_is_text_in_the_page(page: Callable[..., Path], lines: Lines) -> None:
    text = page(lines(called(origin="<script>alert(1)</script>"), ended(cause="'><img>"))).read_text("utf-8")
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_a_year_of_days_is_one_chart(page: Callable[..., Path], lines: Lines) -> None:
    days = [f"2026-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]
    events = (called(day, moment().replace("2026-11-21", day)) for day in days)
    text = page(lines(*events)).read_text("utf-8")
    assert text.count("<svg") == 3


def test_no_label_of_a_chart_is_cut_off(page: Callable[..., Path], lines: Lines, browser: Browser) -> None:
    days = [f"2026-01-{day:02d}" for day in range(3, 30)]
    file = page(lines(*(called(day, moment().replace("2026-11-21", day)) for day in days)))
    opened = browser.new_page()
    opened.goto(file.as_uri())
    beyond = """texts => texts.map(text => text.getBoundingClientRect().right
        - text.ownerSVGElement.getBoundingClientRect().right)"""
    assert max(opened.locator("svg text:not([opacity='0'])").evaluate_all(beyond)) < 1
    opened.close()


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "n/a"), (0, "0 ms"), (-999, "-999 ms"), (1_000, "1.0 s"), (-90_000, "-1.5 min"), (5_400_000, "1.5 h")],
)
def test_a_duration_is_in_the_unit_that_suits_it(milliseconds: int | None, text: str) -> None:
    assert duration(milliseconds) == text
