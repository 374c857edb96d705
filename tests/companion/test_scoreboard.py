"""The scoreboard has every claim once, says what the ledgers say, and reads without its script."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from companion import claims
from companion.claims import board, contests, scoreboard
from companion.claims.chapters import chapters
from companion.rendering import claims as beside

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (ROOT / "_extra" / "scoreboard.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows():
    return scoreboard.rows(claims.papers())


@pytest.fixture(scope="module")
def page(rows):
    return board.board(rows)


@pytest.fixture(scope="module")
def soup(page):
    return BeautifulSoup(page, "html.parser")


@pytest.fixture(scope="module")
def summary():
    return claims.summary()


def ids(tags):
    return [str(tag["data-id"]) for tag in tags]


def test_every_claim_is_one_mark_and_one_line(rows, soup, summary):
    listed = ids(soup.select(".board-list tr[data-id]"))
    assert listed == [row.claim.id for row in rows]
    assert sorted(ids(soup.select(".claim-dot"))) == sorted(listed) == sorted(summary.id)


def test_marks_stand_in_the_order_of_the_chapters_and_papers_before_this_book_s_own(rows, soup):
    order = [chapter.file for chapter in chapters()]
    for band, counted in (("ul.board:not(.board-own *)", True), (".board-own", False)):
        mine = [row for row in rows if row.counted == counted]
        assert ids(soup.select(f"{band} .claim-dot")) == [row.claim.id for row in mine]
        assert sorted(mine, key=lambda row: order.index(row.chapter.file)) == mine


def test_a_mark_says_statement_and_verdict_and_leads_to_the_card(rows, soup):
    marks = {str(tag["data-id"]): tag for tag in soup.select(".claim-dot")}
    for row in rows:
        tag = marks[row.claim.id]
        assert tag["href"] == f"{row.chapter.file}.html#claim-{row.claim.id}"
        assert row.claim.statement in tag["aria-label"] and row.claim.verdict in tag["aria-label"]
        assert f"is-{row.claim.verdict.replace(' ', '-')}" in tag.svg["class"]


def test_the_chapters_that_marks_lead_to_show_these_cards(rows):
    for chapter in {row.chapter.file for row in rows}:
        source = (ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8")
        assert "claims.cards(" in source, chapter


def test_the_papers_claims_are_counted_and_this_book_s_own_are_not(rows):
    own = {"conventions", "controls"}
    for row in rows:
        ours = row.claim.provenance.startswith(("ours", "derived here"))
        assert row.counted == (row.claim.paper not in own and not ours)


def test_the_sentence_and_its_bar_add_up_to_the_papers_claims(rows, soup):
    total = sum(row.counted for row in rows)
    said = scoreboard.sentence(rows).split("\n")[0]
    first, *others = map(int, re.findall(r"\d+", said))
    assert first == total == sum(others)
    shares = [int(str(tag["style"]).removeprefix("flex-grow:")) for tag in soup.select(".bar span")]
    assert sum(shares) == total
    assert shares == [int(tag.get_text().split()[-1]) for tag in soup.select(".legend span")]


def test_the_sentence_puts_every_verdict_somewhere_once():
    kinds = [kind for together in scoreboard._TOGETHER.values() for kind in together]
    assert sorted(kinds) == sorted(claims.VERDICTS)


def test_each_chapter_with_a_paper_has_its_finding_beside_its_marks(rows, soup):
    findings = [tag.get_text() for tag in soup.select(".board .finding")]
    shown = dict.fromkeys(row.chapter for row in rows if row.counted)
    assert findings == [chapter.finding for chapter in shown]
    assert all(len(finding.split()) <= 12 for finding in findings)


def test_what_is_embedded_says_what_the_summary_says(rows, page, summary):
    told = {one["id"]: one for one in beside.told(page)}
    assert len(told) == len(rows)
    for one in summary.to_dict("records"):
        assert {name: told[one["id"]][name] for name in one} == one


def test_the_table_to_take_away_says_what_the_summary_says(page, summary):
    table = {one["id"]: one for one in csv.DictReader(io.StringIO(beside.as_csv(beside.told(page))))}
    for one in summary.to_dict("records"):
        assert {name: table[one["id"]][name] for name in one} == one


def test_no_statement_ends_the_script_early(rows):
    row = replace(rows[0], claim=replace(rows[0].claim, statement="a </script><b>"))
    text = scoreboard.data([row])
    assert text.count("</script>") == 2 and beside.told(text)[0]["statement"] == "a </script><b>"
    assert "<b>" not in board.listed([row]) + board.papers([row]) + board.own([row])


@pytest.mark.parametrize(
    ("provenance", "source"),
    [
        ("reported in the abstract; the rule is ours", "abstract"),
        ("reported in the paper", "paper"),
        ("read off the vector figure", "paper"),
        ("quoted by the author's repository", "authors' code"),
        ("read in the author's repository", "authors' code"),
        ("summary by a third party", "third party"),
        ("no number is known; the rule is ours", "no number known"),
        ("not found", "no number known"),
        ("ours; the rule: better", "this book"),
        ("derived here", "this book"),
    ],
)
def test_the_source_of_a_claim_is_what_its_provenance_begins_with(rows, provenance, source):
    claim = replace(rows[0].claim, provenance=provenance)
    assert claim.paper not in ("conventions", "controls") and scoreboard.source_of(claim) == source
    assert scoreboard.source_of(replace(claim, paper="controls")) == "this book"


def test_a_cause_that_is_contested_has_a_line_below_its_mark(rows, soup):
    marks = {str(tag["data-id"]): set(tag["class"]) for tag in soup.select(".claim-dot")}
    for row in rows:
        line = {contests.CONTESTED: {"contested"}, contests.ASKED: {"asked"}}.get(row.contested, set())
        assert marks[row.claim.id] & {"contested", "asked"} == line
    assert any(row.contested for row in rows)


def test_without_the_script_nothing_is_hidden_but_the_filters(soup):
    assert [tag.name for tag in soup.select("[hidden]")] == ["form"]


def test_filters_offer_what_there_is_and_the_script_knows_each(rows, soup):
    fields = {str(tag["name"]): tag for tag in soup.select("form [name]")}
    assert set(fields) == {"text", "verdict", "source", "scale", "chapter", "sort"}
    told = [row.told() for row in rows]
    for name in ("verdict", "source", "scale", "chapter"):
        offered = {str(option["value"]) for option in fields[name].select("option")} - {""}
        assert offered == {one[name] for one in told} and f'"{name}"' in SCRIPT
    assert all(f"{option['value']}: (a, b)" in SCRIPT for option in fields["sort"].select("option"))
    assert all(tag.find_parent("label") for tag in fields.values())


def test_the_script_is_short_and_asks_for_nothing():
    assert len(SCRIPT.splitlines()) <= 200
    assert not re.search(r"fetch\(|XMLHttpRequest|^import |import\(|https?:", SCRIPT, re.MULTILINE)


def test_the_tables_below_count_as_the_sentence_does(rows):
    numbers = scoreboard.counts([row for row in rows if row.counted])
    for verdict, meaning in claims.VERDICTS.items():
        assert f"| {verdict} | {numbers.get(verdict, 0)} | {meaning} |" in scoreboard.meanings(rows)
    for kind in ("direction", "size"):
        (line,) = re.findall(rf"^\| {kind} \| (.*) \|$", scoreboard.apart(rows), re.MULTILINE)
        assert sum(map(int, line.split(" | "))) == sum(numbers.values())


def test_one_paper_alone_has_its_own_scoreboard(rows):
    alone = scoreboard.rows(["jjap2024"])
    assert [row.claim.id for row in alone] == [row.claim.id for row in rows if row.claim.paper == "jjap2024"]
    assert [row.contested for row in alone] == [r.contested for r in rows if r.claim.paper == "jjap2024"]


# --- files beside the page --------------------------------------------------------------------------


def test_a_badge_says_how_many_claims_have_each_verdict_and_draws_them():
    svg = ElementTree.fromstring(
        beside.badge(["undecided", "reproduced", "reproduced", "undecided", "partly"])
    )
    assert svg.get("aria-label") == "computing-in-memory, reproduced: 2 reproduced · 1 partly · 2 undecided"
    bars = [tag for tag in svg.iter() if tag.get("height") == "3"]
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[0] == widths[2] == pytest.approx(2 * widths[1], abs=0.15)
    assert [bar.get("fill") for bar in bars] == [
        beside.COLOURS[v] for v in ("reproduced", "partly", "undecided")
    ]


def test_a_badge_knows_every_verdict_in_the_order_of_the_verdicts():
    assert list(beside.COLOURS) == list(claims.VERDICTS)


@pytest.fixture
def built(tmp_path, page):
    """A function that builds a book with the scoreboard, and returns the names of the files beside it."""

    def build(exception=None, **change):
        out = tmp_path / "html"
        (out / "chapters").mkdir(parents=True, exist_ok=True)
        (out / "chapters" / "scoreboard.html").write_text(page, encoding="utf-8")
        app = {"outdir": out, "builder": SimpleNamespace(name="html")}
        app["env"] = SimpleNamespace(found_docs={beside.PAGE})
        beside.write(SimpleNamespace(**{**app, **change}), exception)
        return {path.relative_to(out).as_posix() for path in out.rglob("*.*")} - {f"{beside.PAGE}.html"}

    return build


def test_the_build_writes_what_the_page_links_to(built, rows, soup, tmp_path):
    found = built()
    linked = {str(tag["href"]).removeprefix("../") for tag in soup.select("a[download]")}
    shown = set(re.findall(r'src="\.\./(badges/[^"]+)"', scoreboard.badges(rows)))
    assert found == linked | shown and len(shown) == len({r.claim.paper for r in rows if r.counted})
    told = json.loads((tmp_path / "html" / "claims.json").read_text(encoding="utf-8"))
    assert [one["id"] for one in told] == [row.claim.id for row in rows]


def test_nothing_is_written_where_there_is_no_page_to_say_it(built):
    assert built(exception=ValueError()) == set()
    assert built(builder=SimpleNamespace(name="latex")) == set()
    assert built(env=SimpleNamespace(found_docs=set())) == set()
