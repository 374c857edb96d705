"""A card says what the claim says, draws what was measured, and leads to all it rests on."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import guards
import nbformat
import pytest

from companion import claims, sweeps, yaml_files
from companion.claims import contests, marks, rules
from companion.claims.cards import share
from companion.claims.chapters import OWN, chapters

ROOT = Path(__file__).resolve().parents[2]
READING = claims.Reading("deployed", {"structure": "double"}, "error")
OTHER = claims.Reading("deployed", {"structure": "single, column"}, "error")


def piece(**change):
    """A piece that judges a size, unless ``change`` says otherwise."""
    given = {"label": "a", "judges": "size", "of": READING, "above": 4.0, "below": 6.0, **change}
    return claims.Evidence(**given)


def sign(**change):
    return piece(**{"judges": "direction", "against": OTHER, "above": 0.0, "below": float("inf"), **change})


def found(estimate=5.0, low=4.5, high=5.5, status="holds", keys=("deployed/0123456789abcdef",), **change):
    return claims.Estimate(estimate, low, high, 50, status, unit="chips", keys=keys, **change)


def claim(*both, **change):
    """A claim with these pieces and what was found of each."""
    both = both or ((piece(), found()),)
    given = {
        "id": "one",
        "statement": "a is small",
        "where": "Table 1",
        "provenance": "reported",
        "measure": "The error.",
        "scale": "desk",
        "unit": "points",
        "paper": "truong2014",
        "turned": 0.0,
        "evidence": tuple(e for e, _ in both),
        "measured": tuple(m for _, m in both),
    }
    return claims.Claim(**{**given, **change})


def control(verdict="reproduced", name="control", **change):
    """A control of that verdict that contests the claim ``one``."""
    status = {"reproduced": "holds", "not reproduced": "fails", "undecided": "open"}[verdict]
    given = {"paper": "controls", "where": "Single arrays", "contests": ("one",), "statement": "b does it"}
    return claim((piece(), found(status=status)), id=name, **{**given, **change})


class Parser(HTMLParser):
    """Every tag that opens has to close, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    parser = Parser()
    parser.feed(text)
    assert parser.open == []
    return parser.seen


def strips(text):
    """Of each strip on the card the parts by their names, each as its left end and width in percent."""
    drawn = []
    for strip in re.findall(r'<div class="strip".*?</div>', text):
        parts = re.findall(r'<i class="(\w+)[^"]*" style="left:([\d.]+)%(?:;width:([\d.]+)%)?"', strip)
        drawn.append({name: (float(left), float(width or 0)) for name, left, width in parts})
    return drawn


def test_a_card_can_be_linked_to_and_shows_its_address():
    seen = parsed(claims.cards([claim()]))
    assert ("article", "claim-one") in [(tag, given.get("id")) for tag, given in seen]
    assert "#claim-one" in [given.get("href") for _, given in seen]


def test_the_verdict_comes_before_the_claim_and_the_source_after_it_folded():
    text = claims.cards([claim()])
    order = ["reproduced (desk)", "a is small", "The error.", "a: 5.0 [4.5, 5.5]", "<details", "Table 1"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "{cite:t}`truong2014`, Table 1; reported" in text.split("<details")[1]


def test_a_strip_has_the_interval_where_the_numbers_are():
    (strip,) = strips(claims.cards([claim((piece(above=4.0, below=6.0), found(5.0, 4.5, 5.5)))]))
    axis = marks.Axis(4.0 - 0.12, 6.0 + 0.12)
    for name, low, high in (("allowed", 4.0, 6.0), ("interval", 4.5, 5.5)):
        assert strip[name][0] == axis.at(low)
        assert sum(strip[name]) == pytest.approx(axis.at(high), abs=0.051)
    assert strip["dot"][0] == axis.at(5.0) == 50.0
    assert "none" not in strip


def test_an_open_end_is_allowed_to_the_edge_and_no_difference_is_marked():
    (strip,) = strips(claims.cards([claim((sign(), found(5.0, 4.5, 5.5)))]))
    assert strip["none"] == (*strip["allowed"][:1], 0.0) and sum(strip["allowed"]) == 100.0
    (below,) = strips(claims.cards([claim((sign(above=-float("inf"), below=0.0), found()))]))
    assert below["allowed"][0] == 0.0


def test_pieces_of_one_kind_share_an_axis_and_others_have_their_own():
    near, far = (sign(), found(1.0, 0.5, 1.5)), (sign(label="b"), found(9.0, 8.0, 10.0))
    text = claims.cards(
        [claim(near, far, (piece(label="c", above=80.0, below=90.0), found(85.0, 84.0, 86.0)))]
    )
    first, second, third = strips(text)
    assert first["none"] == second["none"] and first["dot"][0] < second["dot"][0] and third["dot"][0] == 50.0
    assert text.count('class="ends"') == 2


@pytest.mark.parametrize(
    ("m", "drawn"),
    [
        (found(5.0, 5.0, 5.0), True),
        (found(5.0, float("nan"), float("nan"), "open"), True),
        (found(float("nan"), float("nan"), float("nan"), "missing", ()), False),
    ],
)
def test_what_has_no_interval_is_a_dot_and_what_has_not_run_is_no_strip(m, drawn):
    assert [set(strip) for strip in strips(claims.cards([claim((piece(), m))]))] == [
        {"allowed", "dot"}
    ] * drawn


def test_who_does_not_see_the_strip_is_told_what_is_allowed():
    labels = [given.get("aria-label") for _, given in parsed(claims.cards([claim((piece(), found()))]))]
    assert "holds; allowed: between 4 and 6 points" in labels


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (piece(), "The whole 95 % interval must lie between 4 and 6 points."),
        (sign(), "The whole 95 % interval must lie above 0 points."),
        (
            sign(above=-1.0, margin=1.0),
            "The whole 95 % interval must lie above -1 points "
            "(0 is no difference, and up to 1 from it counts as none).",
        ),
        (
            sign(above=10.0, margin=10.0),
            "The whole 95 % interval must lie above 10 points (0 is no difference, by more than 10).",
        ),
        (
            sign(above=1.0, compare="ratio"),
            "The whole 95 % interval must lie above 1 points (1 is no difference).",
        ),
        (
            piece(statistic="max"),
            "The largest value must lie between 4 and 6 points, over at least 2 values.",
        ),
        (piece(settled="by arithmetic"), "The number must lie between 4 and 6 points."),
        (
            piece(needs=3, why="so"),
            "The whole 95 % interval must lie between 4 and 6 points, over at least 3 values.",
        ),
    ],
)
def test_a_rule_is_said_in_words_that_follow_from_its_fields(evidence, said):
    assert rules.rule(evidence, "points") == said
    assert said in claims.cards([claim((evidence, found()))])


def test_a_rule_is_said_once_with_the_pieces_that_it_judges():
    text = claims.cards([claim(*((sign(label=label), found()) for label in ("σ = 1", "σ = 2")))])
    assert text.count("*Rule.*") == 1 and "Every piece has to hold." in text
    other = claims.cards([claim((sign(label="σ = 1"), found()), (piece(label="size"), found()))])
    assert "above 0 points. For: σ = 1." in other and "6 points. For: size." in other


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("reproduced", "cause contested"),
        ("undecided", "cause questioned, undecided"),
        ("not reproduced", "cause stands against a control"),
    ],
)
def test_a_claim_says_what_a_control_makes_of_its_cause(verdict, words):
    text = claims.cards([claim(), control(verdict)])
    contested, own = text.split('id="claim-control"')
    assert f'<span class="chip contested">{words}</span>' in contested
    assert f'single_cba.html#claim-control">b does it</a>: {verdict}.' in contested
    assert 'class="chip contested"' not in own and "It contests the cause of `one`." in own
    assert "contest" not in claims.cards([claim()])


def test_one_control_that_holds_contests_a_cause_whatever_others_say():
    assert contests.contested([control("not reproduced"), control("reproduced")]) == "cause contested"
    assert contests.contested([]) == ""


def test_controls_of_the_ledgers_contest_a_claim_that_is_shown_without_them():
    shown = claim(id="jjap-updated", paper="jjap2024")
    controls = contests.contesting([shown])["jjap-updated"]
    assert {one.id for one in controls} == {"control-offsets-trim", "control-offsets-no-training"}


@pytest.mark.parametrize("name", ["nobody", "two"])
def test_a_control_that_contests_what_is_no_other_claim_is_refused(tmp_path, name):
    entry = {"statement": "a", "where": "b", "provenance": "ours", "measure": "", "scale": "desk", "unit": ""}
    ledger = [
        {"id": "one", "reason": "so", **entry},
        {"id": "two", "reason": "so", "contests": [name], **entry},
    ]
    (tmp_path / "paper.yml").write_text(json.dumps(ledger), encoding="utf-8")
    with pytest.raises(ValueError, match=f"claim 'two': contests = '{name}' is not allowed; allowed: one"):
        claims.load("paper", tmp_path)
    ledger[1]["contests"] = ["one"]
    (tmp_path / "paper.yml").write_text(json.dumps(ledger), encoding="utf-8")
    assert claims.load("paper", tmp_path)[1].contests == ("one",)


def test_a_figure_is_named_as_figures_are():
    with pytest.raises(ValueError, match="figure = 'gain' is not allowed; allowed: a figure's name, 'fig-"):
        claim(figure="gain")
    assert "{numref}`fig-gain`" in claims.cards([claim(figure="fig-gain")])


def test_the_command_names_a_record_and_says_how_many_there_are():
    one = claims.cards([claim()])
    assert (
        "Its one record: `rm data/results/deployed/0123456789abcdef.* && python -m companion.sweeps run"
        in one
    )
    keys = ("deployed/0123456789abcdef", "deployed/fedcba9876543210")
    two = claims.cards([claim((piece(), found(keys=keys)), (piece(label="b"), found(keys=keys)))])
    assert "The first of its 2 records" in two


# --- the ledgers of the book ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ledgers():
    return {paper: claims.load(paper) for paper in claims.papers()}


@pytest.fixture(scope="module")
def everything(ledgers):
    return [claim for found in ledgers.values() for claim in found]


def test_every_card_closes_what_it_opens_and_will_be_the_same_elsewhere(everything):
    text = claims.cards(everything)
    ids = [given["id"] for tag, given in parsed(text) if tag == "article"]
    assert ids == [f"claim-{claim.id}" for claim in everything]
    unlike = [match.group() for match in guards.UNREPEATABLE.finditer(text)]
    assert set(unlike) <= guards.EXACT


def test_every_command_runs_what_a_sweep_asks_for(everything):
    known = {path.stem: {point.key for point in sweeps.points(path)} for path in sweeps.SWEEPS.glob("*.yml")}
    keys = {key for claim in everything for m in claim.measured for key in m.keys}
    assert keys and all(key.split("/")[1] in known[key.split("/")[0]] for key in keys)


def test_every_figure_that_a_claim_names_is_in_its_chapter(everything):
    named = [(claims.chapter_of(claim).file, claim.figure) for claim in everything if claim.figure]
    figures = {
        chapter: {
            cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
            for cell in nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", as_version=4).cells
        }
        for chapter in {chapter for chapter, _ in named}
    }
    assert len(named) > 50 and [one for one in named if one[1] not in figures[one[0]]] == []


def test_only_controls_contest_and_what_they_contest_is_a_paper_s(everything):
    assert {claim.paper for claim in everything if claim.contests} == {"controls"}
    contested = {name for claim in everything for name in claim.contests}
    papers = {claim.id: claim.paper for claim in everything}
    assert contested and not {papers[name] for name in contested} & set(OWN)


def test_every_ledger_and_every_control_has_its_chapter(ledgers, everything):
    files = [chapter.file for chapter in chapters()]
    assert {claims.chapter_of(claim).file for claim in everything} == set(files)
    listed = {paper for chapter in chapters() for paper in chapter.papers}
    assert listed == set(ledgers) - {"controls"}
    parts = yaml_files.read(ROOT / "_toc.yml")["parts"]
    contents = [entry["file"] for part in parts for entry in part["chapters"]]
    assert [f"chapters/{file}" for file in files] == [entry for entry in contents if entry[9:] in files]


def test_a_claim_without_a_chapter_is_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match="one: paper = 'nobody' has no chapter; allowed: conventions, gao"):
        claims.chapter_of(claim(paper="nobody"))
    with pytest.raises(ValueError, match="control: where = 'Nowhere' is not allowed; allowed: A chip is"):
        claims.chapter_of(control(where="Nowhere"))


CHAPTER = {"file": "a", "name": "A", "finding": "It holds.", "papers": ["x"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "{} is not allowed; allowed: a list of chapters"),
        ([{**CHAPTER, "finding": "so " * 13}], "chapter 1: finding = .* at most 12 words"),
        ([{**CHAPTER, "title": "b"}], "chapter 1: key = 'title' is not allowed; allowed: file, name"),
        ([CHAPTER, {**CHAPTER, "file": "b", "name": "B"}], "papers = 'x' is not allowed twice"),
        ([CHAPTER, {**CHAPTER, "papers": []}], "file = 'a' is not allowed twice"),
    ],
)
def test_a_wrong_list_of_chapters_is_refused(tmp_path, content, said):
    path = tmp_path / "chapters.yml"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"chapters\.yml: {said}"):
        chapters(path)


def test_no_two_verdicts_share_a_mark_and_every_verdict_has_one():
    assert set(marks.SHAPES) == set(claims.VERDICTS)
    assert len(set(marks.SHAPES.values())) == len(marks.SHAPES)


@pytest.mark.parametrize(
    ("turned", "said"),
    [(0.0001, "less than 0.1 %"), (0.004, "0.4 %"), (0.03, "3 %"), (0.104, "10.4 %"), (0.37, "37 %")],
)
def test_share_of_resamples_says_on_which_side_of_the_limit_it_lies(turned: float, said: str) -> None:
    assert share(turned) == said
