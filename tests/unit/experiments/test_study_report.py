"""The page about many runs: what stands on it, and that it stands alone."""

import csv
import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import html5lib
import pytest

import simulated_study
from modelwright.experiments.study_curves import can_run_along, drawings_of
from modelwright.experiments.study_plots import edge_along
from modelwright.experiments.study_record import FoundEdge, StudyRecord
from modelwright.experiments.study_report import write_study_report
from modelwright.experiments.study_results import Results, compare
from modelwright.experiments.study_settings import numeric_axes
from modelwright.experiments.study_texts import read_texts, texts_file
from modelwright.experiments.verdicts import briefly, edge_in_words, headline, in_words
from modelwright.generation.temperatures import AtTemperature
from modelwright.generation.variety import Spread, Variety
from modelwright.training.metrics import facts_file, metrics_file, to_line
from simulated_study import Simulated

variants = [
    Simulated(name="base"),
    Simulated(name="a<b>&", changes={"model.mlp": "gelu"}, shift=-0.08),
    Simulated(name="noisy", changes={"schedule.peak_lr": 0.002}, shift=0.01, spread=0.03),
    Simulated(name="wild", changes={"schedule.peak_lr": 0.2}, diverges=frozenset({1, 3})),
    Simulated(name="late", changes={"schedule.peak_lr": 0.01}, absent={2: "missing", 3: "stopped"}),
]


def write_texts_of(study: StudyRecord, variant: str, *, n_texts: int, seeds: Sequence[int]) -> None:
    """What the models of some runs would have written at two temperatures."""
    for run in study.runs_of(variant):
        if run.seed not in seeds:
            continue
        told = [
            AtTemperature(
                temperature=temperature,
                prompt="One <day>",
                n_tokens=9.0,
                texts=(f" {variant} at {temperature} & {run.seed}",) * n_texts,
                n_groups=2 if n_texts > 1 else 0,
                measures={
                    name: Spread(mean=temperature / 2 + run.seed / 100, standard_error=0.01)
                    for name in Variety.__dataclass_fields__
                }
                if n_texts > 1
                else {},
            )
            for temperature in (0.5, 1.2)
        ]
        record = json.dumps([one.to_json() for one in told])
        (run.folder / texts_file).write_text(record)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A study's folder with its report, made once."""
    with TemporaryDirectory() as name:
        study = simulated_study.write_simulated(
            Path(name), variants, n_steps=130, samples=True, question="Is <it> better?"
        )
        write_texts_of(study, "base", n_texts=1, seeds=(1,))
        write_texts_of(study, "noisy", n_texts=8, seeds=(1, 2, 3))
        assert write_study_report(study, Path(name)) == Path(name) / "report.html"
        yield Path(name)


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    from modelwright.experiments.study_folder import read_study

    return compare(read_study(folder))


@cache
def parsed(text: str):
    """The page as a strict parser has it: it raises for anything that is not HTML."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(text)


def test_the_page_is_html_without_a_fault(page: str):
    document = parsed(page)
    assert len(list(document.iter("section"))) > 6
    with pytest.raises(html5lib.html5parser.ParseError):
        html5lib.HTMLParser(strict=True).parse(page.replace("</figure>", "", 1))


def test_no_id_stands_twice_and_every_reference_has_one(page: str):
    identities = re.findall(r'\sid=["\']([^"\']+)', page)
    assert len(identities) == len(set(identities)) > 100
    wanted = re.findall(r'(?:href="#|url\(#|for=["\'])([^"\')]+)', page)
    assert wanted and set(wanted) <= set(identities)


def test_the_page_asks_for_nothing_from_outside_and_has_no_scripts(page: str):
    for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
        for found in re.findall(rf'\s{name}=["\']([^"\']*)', page):
            assert found.startswith(("#", "data:")), found
    addresses = set(re.findall(r"(?:https?:)?//[\w./-]+", page)) - {"//www.w3.org/1999/xlink"}
    assert {address for address in addresses if "w3.org" not in address} == set()
    assert not re.search(r"<script|@import|\son\w+=|url\((?!#)", page)


def test_what_is_named_by_people_is_text_never_markup(page: str):
    assert "<b>&" not in page and "Is &lt;it&gt; better?" in page
    assert "a&lt;b&gt;&amp;" in page
    assert "One day a &lt;small&gt; bird" in page


def test_the_answer_comes_first(page: str, results: Results):
    head = page[page.index("<header>") : page.index("</header>")]
    text = re.sub(r"<[^>]+>", "", head)
    assert "Better than base: a&lt;b&gt;&amp; (by 0.0" in text
    assert "Diverged where base did not: wild" in text
    assert "Too few seeds to tell: noisy and late" in text
    assert headline(results).endswith("over 3 seeds.")


def test_each_row_has_its_verdict_and_figures(page: str, results: Results):
    table = page[page.index("<h2>Verdicts") : page.index("<details>")]
    rows = {row.split("<")[0]: row for row in table.split("<tr><td class='words'>")}
    better = results.comparisons["a<b>&"]
    assert better.mean is not None and better.interval is not None
    row = rows["a&lt;b&gt;&amp;"]
    assert f"{better.mean:+.4f}".replace("-", "−") in row
    assert f"{better.interval.low:+.3f}".replace("-", "−") in row
    assert "better" in row and "3 of 3" in row
    assert "diverged with 2 of 3 seeds, the baseline with none (Fisher's p = 0.40)" in rows[
        "wild"
    ].replace("&#x27;", "'")
    assert "1 of 3" in rows["late"]
    assert (
        "Not compared for want of a result: seed 2: late is missing; seed 3: late stopped" in table
    )


def test_every_run_is_listed_with_what_became_of_it(page: str, results: Results):
    table = page[page.index("<h2>Runs") : page.index("<h2>How this was judged")]
    assert "all 15 runs" in table
    for seed, final in results.baseline.outcomes.finals.items():
        row = f"<td class='words'>base</td><td>{seed}</td><td>finished</td><td>{final:.4f}</td>"
        assert row in table
    assert "<td>missing</td><td>–</td>" in table and "the loss is not finite" in table


def test_every_choice_shows_exactly_one_picture(page: str):
    groups = [re.findall(rf"id='curves-{n}-(\w+)'", page) for n in range(3)]
    assert groups[0] == ["step", "tokens", "seconds", "flops"]
    assert groups[1] == ["smoothed", "difference", "raw", "validation"]
    assert groups[2] == ["linear", "log"]
    style = page[page.index("<style>") : page.index("</style>")]
    for key in itertools.product(*groups):
        name = "-".join(key)
        assert len(re.findall(rf"<div class='{name}'><svg", page)) == 1
        chosen = " ~ ".join(f"#curves-{n}-{choice}:checked" for n, choice in enumerate(key))
        assert f"{chosen} ~ .panels > .{name}" in style
    assert page.count(" checked>") == 3


def test_pictures_differ_where_the_choice_is_another(folder: Path):
    pictures = sorted((folder / "figures").glob("curves-*.svg"))
    assert len(pictures) == 32
    assert len({path.read_text() for path in pictures}) == 32
    for path in pictures:
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_say_what_the_page_says(folder: Path, results: Results):
    with (folder / "table.csv").open() as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == [one.name for one in variants]
    assert rows["base"]["verdict"] == "baseline" and rows["base"]["difference"] == ""
    for name, one in results.comparisons.items():
        assert rows[name]["verdict"] == one.kind
        assert rows[name]["p_holm"] == ("" if one.p_holm is None else str(one.p_holm))
    assert float(rows["noisy"]["joint_low"]) <= float(rows["noisy"]["low"])
    with (folder / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 15
    assert [run["outcome"] for run in runs if run["variant"] == "wild"] == [
        "diverged",
        "finished",
        "diverged",
    ]
    assert float(runs[0]["validation_loss"]) == results.baseline.outcomes.finals[1]
    with (folder / "curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    last = [row for row in curves if row["variant"] == "base" and row["seed"] == "1"][-1]
    assert last["step"] == "130" and last["validation_loss"] == runs[0]["validation_loss"]


@pytest.mark.parametrize("name", ["table.csv", "runs.csv", "curves.csv"])
def test_every_row_of_a_table_stands_under_its_names(folder: Path, name: str):
    with (folder / name).open() as file:
        names, *rows = csv.reader(file)
    assert rows and {len(row) for row in rows} == {len(names)}


def test_the_baseline_has_its_times_too(folder: Path, results: Results):
    with (folder / "table.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["variant"] == "base")
    seconds = [run.seconds for run in results.baseline.runs]
    assert float(row["total_seconds"]) == pytest.approx(sum(seconds))
    assert float(row["mean_seconds"]) == pytest.approx(sum(seconds) / len(seconds))


def test_a_run_that_was_stopped_is_no_part_of_a_runs_time(folder: Path, results: Results):
    with (folder / "table.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["variant"] == "late")
    late = next(one for one in results.variants if one.name == "late")
    assert [run.outcome for run in late.runs] == ["finished", "missing", "stopped"]
    finished, _, stopped = (run.seconds for run in late.runs)
    assert stopped > 0
    assert float(row["mean_seconds"]) == finished
    assert float(row["total_seconds"]) == pytest.approx(finished + stopped)


def test_verdicts_in_words_say_how_large_and_how_sure(results: Results):
    found = results.comparisons
    assert re.fullmatch(
        r"better by 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", in_words(found["a<b>&"], results)
    )
    noisy = in_words(found["noisy"], results)
    assert re.fullmatch(
        r"too few seeds: between −0\.\d+ and \+0\.\d+; about \d+ would show a difference of 0\.024",
        noisy,
    )
    assert briefly(found["late"], results) == "too few seeds"
    assert (
        in_words(found["late"], results)
        == "too few seeds: one difference has no spread; 3 are a beginning"
    )


def test_a_page_of_one_comparison_answers_in_a_sentence(tmp_path: Path):
    study = simulated_study.write_simulated(tmp_path, variants[:2], n_steps=20)
    assert re.fullmatch(
        r"a<b>& against base: better by 0\.\d+ \(0\.\d+ to 0\.\d+\)\. "
        r"The lowest mean is that of a<b>&, \d\.\d+ nats per token over 3 seeds\.",
        headline(compare(study)),
    )


seeds_apart = [
    Simulated(name="base", absent={2: "missing", 3: "missing"}),
    Simulated(name="other", absent={1: "missing"}),
]
all_lost = [Simulated(name=name, diverges=frozenset({1, 2, 3})) for name in ("base", "other")]


@pytest.mark.parametrize(
    ("some", "n_steps", "drawings"),
    [
        (seeds_apart, 20, {"smoothed", "raw", "validation"}),  # nothing to subtract
        (all_lost, 200, {"smoothed", "raw"}),  # a mean is of runs that did not diverge
        (variants[:2], 1, {"smoothed", "raw", "validation"}),  # one point is no curve
    ],
)
def test_what_there_is_nothing_to_draw_of_is_no_choice(
    tmp_path: Path, some: list[Simulated], n_steps: int, drawings: set[str]
):
    study = simulated_study.write_simulated(tmp_path, some, n_steps=n_steps)
    page = write_study_report(study, tmp_path).read_text()
    assert set(re.findall(r"id='curves-1-(\w+)'", page)) == drawings


def test_an_axis_without_a_common_place_says_so(tmp_path: Path):
    study = simulated_study.write_simulated(tmp_path, variants[:2], n_steps=20)
    for run in study.runs_of("a<b>&"):  # as if its first step waited for a compiler
        path = run.folder / metrics_file
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        late = [line | {"seconds": line.get("seconds", 0) + 1000} for line in lines]
        path.write_text("".join(map(to_line, late)))
    write_study_report(study, tmp_path)
    figures = tmp_path / "figures"
    for scale in ("linear", "log"):
        assert (
            "at the same place" in (figures / f"curves-seconds-difference-{scale}.svg").read_text()
        )
        assert "same place" not in (figures / f"curves-step-difference-{scale}.svg").read_text()


def test_names_are_drawn_as_they_stand(tmp_path: Path):
    names = ["base$", "$x_{$", "$5 or $6", "_first"]
    some = [Simulated(name=name) for name in names]
    write_study_report(simulated_study.write_simulated(tmp_path, some, n_steps=20), tmp_path)
    for picture in ("seeds", "curves-step-smoothed-linear"):
        drawn = (tmp_path / "figures" / f"{picture}.svg").read_text()
        for name in ("base$ (baseline)", *names[1:]):
            assert f">{name}</text>" in drawn, name
    less = (tmp_path / "figures" / "curves-step-difference-linear.svg").read_text()
    assert ">base$ (nats per token)</text>" in less


def test_settings_that_end_alike_have_a_picture_each(tmp_path: Path):
    settings = ("evaluation.every_steps", "samples.every_steps")
    some = [
        Simulated(name=f"{setting}-{n}", changes={setting: n})
        for setting in settings
        for n in (2, 4)
    ]
    study = simulated_study.write_simulated(tmp_path, [variants[0], *some], n_steps=20, n_seeds=1)
    page = write_study_report(study, tmp_path).read_text()
    assert all(f"<h2>Along the {setting}</h2>" in page for setting in settings)
    assert len(list((tmp_path / "figures").glob("along-*.svg"))) == 2
    identities = re.findall(r'\sid=["\']([^"\']+)', page)
    assert len(identities) == len(set(identities))


def of_other_tokens(folder: Path, *, with_bytes: bool) -> StudyRecord:
    """A study of two variants, one with another tokenizer."""
    study = simulated_study.write_simulated(folder, variants[:2], n_steps=20)
    for run in study.runs_of("a<b>&"):
        facts = run.folder / facts_file
        facts.write_text(facts.read_text().replace("0" * 64, "1" * 64))
    for run in study.runs if not with_bytes else ():
        path = run.folder / metrics_file
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{k: v for k, v in x.items() if not k.startswith("validation")} for x in lines]
        path.write_text("".join(map(to_line, kept)))
    return study


@pytest.mark.parametrize("with_bytes", [True, False])
def test_losses_of_other_tokens_are_never_subtracted_in_a_picture(tmp_path: Path, with_bytes: bool):
    results = compare(of_other_tokens(tmp_path, with_bytes=with_bytes))
    assert results.unit == ("bits per byte" if with_bytes else "nats per token")
    assert "difference" not in drawings_of(results)
    assert "The tokenizers differ" in results.notes[0]


def test_losses_per_token_of_other_tokens_are_said_to_be(tmp_path: Path):
    results = compare(of_other_tokens(tmp_path, with_bytes=False))
    assert "per token, which are not of the same tokens" in results.notes[0]


def test_a_study_of_which_nothing_has_ended_has_no_report(tmp_path: Path):
    absent = dict.fromkeys((1, 2, 3), "missing")
    study = simulated_study.write_simulated(tmp_path, [Simulated(name="base", absent=absent)])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"no run of simulated has come to an end yet \(missing\)"):
        write_study_report(study, tmp_path)


def test_texts_stand_side_by_side_a_column_for_each_temperature(page: str):
    (found,) = re.findall(r"<table class='texts'>.*?</table>", page, re.DOTALL)
    rows = [re.sub(r"<[^>]+>", "|", row) for row in found.split("<tr>")[1:]]
    assert re.sub(r"\|+", "|", rows[0]) == "|temperature 0.5|temperature 1.2|"
    assert "base" in rows[1] and "One &lt;day&gt;| base at 0.5 &amp; 1" in rows[1]
    assert "noisy" in rows[2] and "noisy at 1.2 &amp; 1" in rows[2]
    assert len(rows) == 3


def test_how_varied_texts_are_is_told_over_seeds(page: str, folder: Path):
    row = re.search(r"<tr><td[^>]*>noisy</td><td>1.2</td><td>3</td><td>([^<]+)</td>", page)
    assert row is not None and row[1] == "0.620 ± 0.010"
    lines = list(csv.DictReader((folder / "variety.csv").open()))
    assert len(lines) == 3 * 2 * len(Variety.__dataclass_fields__)
    assert lines[0] == {
        "variant": "noisy",
        "seed": "1",
        "temperature": "0.5",
        "measure": "distinct_1",
        "mean": "0.26",
        "standard_error": "0.01",
    }
    assert (folder / "figures" / "variety.png").is_file()


@pytest.mark.parametrize("damage", ["[", "[[]]", '[{"temperature": 1}]'])
def test_damaged_texts_are_named(tmp_path: Path, damage: str):
    (tmp_path / texts_file).write_text(damage)
    with pytest.raises(ValueError, match=r"(?s)texts\.json is damaged .* delete it"):
        read_texts(tmp_path)


def bisected_study(folder: Path, edge: FoundEdge, *diverging: float) -> StudyRecord:
    """Runs at five rates, of which the first of three seeds diverges at some."""
    rates = (1e-3, 1e-2, 0.1, 0.178, 0.205)
    variants = [Simulated(name="base")] + [
        Simulated(
            name=f"{rate:g}",
            changes={"schedule.peak_lr": rate},
            diverges=frozenset({1} if rate in diverging else ()),
        )
        for rate in rates
    ]
    study = simulated_study.write_simulated(folder, variants, n_steps=90)
    return dataclasses.replace(study, edge=edge)


def edge_between(trains: float | None, diverges: float | None, note: str = "") -> FoundEdge:
    return FoundEdge(
        setting="schedule.peak_lr",
        trains=trains,
        diverges=diverges,
        is_found=None not in (trains, diverges),
        note=note,
    )


def test_the_answer_and_the_picture_tell_where_runs_begin_to_diverge(tmp_path: Path):
    study = bisected_study(tmp_path, edge_between(0.178, 0.205), 0.205)
    told = "No run diverged with a peak learning rate of 0.178, and 1 of 3 did with 0.205."
    assert headline(compare(study)).endswith(told)
    text = write_study_report(study, tmp_path).read_text()
    assert told in text and "The upright band is between" in text


def test_an_edge_that_is_not_sharp_is_told_as_such(tmp_path: Path):
    study = bisected_study(tmp_path, edge_between(0.178, 0.205), 0.205, 0.01)
    assert edge_in_words(study) == (
        "No run diverged with a peak learning rate of 0.178, and 1 of 3 did with 0.205; "
        "but so did 1 of 3 with 0.01, so the edge is not a sharp one."
    )


def test_of_an_edge_below_what_trains_the_larger_values_come_before(tmp_path: Path):
    study = bisected_study(tmp_path, edge_between(0.01, 0.001), 0.001, 0.1)
    assert "1 of 3 did with 0.001; but so did 1 of 3 with 0.1, so" in edge_in_words(study)


def test_an_edge_that_is_not_found_says_why_and_is_not_drawn(tmp_path: Path):
    study = bisected_study(tmp_path, edge_between(0.205, None, "no run diverged at 0.205; go on"))
    assert edge_in_words(study) == (
        "Where runs begin to diverge along the peak learning rate is not found: "
        "no run diverged at 0.205; go on."
    )
    results = compare(study)
    (axis,) = numeric_axes(results)
    assert edge_along(results, axis) is None
    found = dataclasses.replace(study, edge=edge_between(0.178, 0.205))
    assert edge_along(compare(found), axis) == (0.178, 0.205)


def test_curves_begin_with_the_axis_along_which_variants_go_as_far(tmp_path: Path):
    batches = [
        Simulated(name=f"{n}", changes={"training.batch_tokens": 1024 * n}) for n in (1, 2, 4)
    ]
    equal = simulated_study.write_simulated(tmp_path / "a", batches, n_steps=80, equal_tokens=True)
    as_many = simulated_study.write_simulated(tmp_path / "b", batches, n_steps=80)
    assert can_run_along(compare(equal))[:2] == ["tokens", "step"]
    assert can_run_along(compare(as_many))[:2] == ["step", "tokens"]
