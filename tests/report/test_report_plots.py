from __future__ import annotations

import dataclasses
import itertools
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree

import pytest

from ssae_debias.report import (
    Estimate,
    example_content,
    group_plot,
    leakage_plot,
    training_plot,
    worst_group_plot,
)
from ssae_debias.report.methods import METHODS, describe
from ssae_debias.report.plots import NARROW, WIDTH
from ssae_debias.report.svg import FONT_SIZE

ROWS = example_content().rows
TRAINING = example_content().training
DRAWINGS = {
    "worst": lambda **options: worst_group_plot(ROWS, **options),
    "groups": lambda **options: group_plot(ROWS[0], ROWS[2], **options),
    "leakage": lambda **options: leakage_plot(ROWS, **options),
    "training": lambda **options: training_plot(TRAINING, **options),
}


@pytest.fixture(params=DRAWINGS)
def draw(request):
    return DRAWINGS[request.param]


def words(svg: str) -> list[str]:
    return [
        "".join(node.itertext()).strip()
        for node in ElementTree.fromstring(svg).iter()
        if node.tag.endswith("text")
    ]


def test_a_plot_is_well_formed_has_a_spoken_label_and_a_flexible_size(draw) -> None:
    root = ElementTree.fromstring(draw())
    assert root.get("role") == "img"
    assert len(root.get("aria-label")) > 30
    assert root.get("viewBox")
    assert root.get("width") is None


def test_every_colour_follows_the_theme(draw) -> None:
    svg = draw()
    assert re.search(r"var\(--\w", svg)
    outside = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)
    assert re.findall(r"#[0-9a-f]{6}\b", outside) == []


def test_a_plot_has_a_transparent_ground_and_no_fixed_font(draw) -> None:
    svg = draw()
    assert "DejaVu" not in svg
    assert "<style" not in svg
    ground = ElementTree.fromstring(svg).find(".//{http://www.w3.org/2000/svg}path")
    assert ground.get("style") == "fill: none"


def test_the_same_figures_give_the_same_bytes(draw) -> None:
    assert draw() == draw()


def test_ids_do_not_collide_between_pictures() -> None:
    pictures = [draw(width=width) for draw in DRAWINGS.values() for width in (WIDTH, NARROW)]
    ids = [name for svg in pictures for name in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in pictures:
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= set(re.findall(r' id="([^"]+)"', svg))


def test_the_narrow_drawing_is_narrower(draw) -> None:
    widths = [float(re.search(r'viewBox="0 0 ([\d.]+)', draw(width=width))[1]) for width in (WIDTH, NARROW)]
    assert widths == pytest.approx([WIDTH * 72, NARROW * 72])


def test_methods_stand_best_first_with_their_values() -> None:
    said = words(worst_group_plot(ROWS))
    named = ["Oracle", "Word deletion", "SSAE-debias retrained", "Original model"]
    assert [word for word in said if word in named] == named
    assert {"78.1", "32.3", "no group labels", "group labels", "ceiling"} <= set(said)


def test_groups_show_size_before_and_after() -> None:
    said = words(group_plot(ROWS[0], ROWS[2]))
    assert {"nurse/M", "n = 99", "32.3", "78.1"} <= set(said)


def test_markup_and_mathematics_in_a_name_stay_text() -> None:
    nasty = dataclasses.replace(ROWS[0], method='<b>$x_1$ & "co"</b>')
    svg = worst_group_plot([nasty])
    assert nasty.method in words(svg)
    assert nasty.method in ElementTree.fromstring(svg).get("aria-label")


def test_a_name_in_another_script_is_kept_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "护士" in words(worst_group_plot([dataclasses.replace(ROWS[0], method="护士")]))


def test_a_long_name_is_shortened_and_read_aloud_in_full() -> None:
    name = "a method with a name that goes on for ever and ever"
    svg = worst_group_plot([dataclasses.replace(ROWS[0], method=name)])
    assert any(word.endswith("…") for word in words(svg))
    assert name in ElementTree.fromstring(svg).get("aria-label")


def test_rows_without_leakage_are_left_out() -> None:
    unmeasured = dataclasses.replace(ROWS[0], leakage={"linear": None, "mlp": None})
    half = dataclasses.replace(ROWS[1], leakage={"linear": Estimate(0.6, 0.6, 0.6), "mlp": None})
    said = words(leakage_plot([unmeasured, half]))
    assert "SSAE-debias" in said
    assert "Original model" not in said


def test_rows_that_share_their_activations_share_a_bar() -> None:
    def named(method: str, leak: float):
        estimate = Estimate(leak, leak, leak)
        return dataclasses.replace(ROWS[0], method=method, leakage={"linear": estimate, "mlp": None})

    said = words(
        leakage_plot(
            [
                named("swap_mean_retrain", 0.6),
                named("leace_kept", 0.5),
                named("swap_mean", 0.6),
                named("leace", 0.5),
            ]
        )
    )
    assert [word for word in said if word.startswith(("Swap", "LEACE"))] == ["Swap mean", "LEACE"]
    # another figure is another edit, whatever the names say
    said = words(leakage_plot([named("swap_mean_retrain", 0.6), named("swap_mean", 0.7)]))
    assert [word for word in said if word.startswith("Swap")] == ["Swap mean retrained", "Swap mean"]


def test_published_rows_have_a_mark_of_their_own() -> None:
    published = dataclasses.replace(ROWS[0], method="ssae")
    assert "published" in words(worst_group_plot([ROWS[0], published]))
    assert "published" not in words(worst_group_plot([ROWS[0]]))


@pytest.mark.parametrize("width", [WIDTH, NARROW])
def test_a_full_table_stays_readable(width) -> None:
    twins = [
        f"{name}_retrain"
        for name, method in METHODS.items()
        if "classifier is kept" in method.description and not name.endswith("_kept")
    ]
    rows = [dataclasses.replace(ROWS[0], method=name) for name in (*METHODS, *twins)]
    assert len(rows) > 40
    for picture in (worst_group_plot(rows, width=width), leakage_plot(rows, width=width)):
        assert not [word for word in words(picture) if word.endswith("…")]
        height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)', picture)[1])
        assert height < 1000  # points; a screen shows about 700
        labels = {describe(row.method).label for row in rows}
        at = [
            float(node.get("y"))
            for node in ElementTree.fromstring(picture).iter()
            if node.tag.endswith("text") and "".join(node.itertext()).strip() in labels
        ]
        assert len(at) >= len(METHODS) - 2  # LEACE kept and retrained share a bar, as do others
        assert min(after - before for before, after in itertools.pairwise(at)) > 1.4 * FONT_SIZE


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="no row has a leakage"):
        leakage_plot([dataclasses.replace(ROWS[0], leakage={"linear": None, "mlp": None})])
    with pytest.raises(ValueError, match="no site has a history"):
        training_plot({"embed": {"fvu": 0.1, "history": []}})
    with pytest.raises(ValueError, match="no group in common"):
        group_plot(ROWS[0], dataclasses.replace(ROWS[1], groups={}))


def test_importing_the_report_loads_neither_matplotlib_nor_torch() -> None:
    code = "import sys, ssae_debias.report; print(sorted({'matplotlib', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
