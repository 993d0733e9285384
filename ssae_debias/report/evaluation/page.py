"""The page of an evaluation as one HTML file, and its plots as files of their own.

The page is under the same rules as every report: it loads nothing, every text from the data goes through autoescape,
and the policy in its head lets no script run but the page's own.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from ssae_debias.files import file_aside
from ssae_debias.report.evaluation.content import EvaluationContent
from ssae_debias.report.evaluation.facts import duration, grouped, listed_claims, variant_rows
from ssae_debias.report.evaluation.latent_plots import SCORES, explanations
from ssae_debias.report.evaluation.plates import Plate, plates
from ssae_debias.report.evaluation.styles import styles
from ssae_debias.report.page import as_yaml
from ssae_debias.report.plots import NARROW, WIDTH
from ssae_debias.report.svg import PALETTE, page_style, to_svg
from ssae_debias.report.templating import page_assets, page_environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
VERDICT_MARKS = {"holds": "✓", "does not hold": "✗", "unclear": "?"}


@dataclass(frozen=True)
class Drawn:
    """A plate's pictures: for the page's two widths, and as files with the title on them."""

    wide: str
    narrow: str
    svg: str
    png: bytes


def evaluation_plots(content: EvaluationContent) -> dict[str, str]:
    """Every plot that the content has figures for, as an SVG file's text, by name.

    Parameters
    ----------
    content : EvaluationContent

    Returns
    -------
    dict of str to str
        By `Plate.name`: "recall", "recall_found", "pareto", "fidelity", "coverage", "tail", "cumulative", "rank_error",
        "entropy", "maximum", "counts", "log_ratio", "cosines", "umap", "interpretability", "diversity", "error_term",
        "circuit" ("circuit_2", … for further ones). With title, on the light theme's paper, and in colours that any
        viewer knows.

    Examples
    --------
    >>> import dataclasses
    >>> from ssae_debias.report.evaluation import example_evaluation
    >>> example = example_evaluation()
    >>> tail = dataclasses.replace(example, tables={"tail": example.tables["tail"]}, circuits={})
    >>> {name: svg[:5] for name, svg in evaluation_plots(tail).items()}
    {'tail': '<?xml'}
    """
    return {plate.name: _files(plate, plate.draw(WIDTH))[0] for plate in plates(_checked(content))}


def write_evaluation(content: EvaluationContent, folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` and ``plots/<name>.svg`` and ``.png``, each file whole or not at all.

    Parameters
    ----------
    content : EvaluationContent
        What to show.
    folder : path-like
        Made if it is not there. Plots of an earlier evaluation that this one has not are left as they are.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    TypeError
        `content` is no `EvaluationContent`.
    OSError
        No permission or no space left; what stood there still does.

    Examples
    --------
    >>> import dataclasses, tempfile
    >>> from ssae_debias.report.evaluation import example_evaluation
    >>> example = example_evaluation()
    >>> tail = dataclasses.replace(example, tables={"tail": example.tables["tail"]}, circuits={})
    >>> page = write_evaluation(tail, tempfile.mkdtemp())
    >>> page.name, sorted(path.name for path in (page.parent / "plots").iterdir())
    ('report.html', ['tail.png', 'tail.svg'])
    """
    shown = plates(_checked(content))
    pictures = {plate.name: draw(plate) for plate in shown}
    page = _page(content, shown, pictures)
    folder = Path(folder)
    for name, drawn in pictures.items():
        with file_aside(folder / "plots" / f"{name}.svg") as aside:
            aside.write_text(drawn.svg, encoding="utf-8")
        with file_aside(folder / "plots" / f"{name}.png") as aside:
            aside.write_bytes(drawn.png)
    with file_aside(folder / "report.html") as aside:
        # A text cut inside a character may hold half of a surrogate pair, which UTF-8 cannot say.
        aside.write_text(page, encoding="utf-8", errors="replace")
    return folder / "report.html"


def render_evaluation(content: EvaluationContent) -> str:
    """The page as a string. The same content gives the same bytes: no date, no random id.

    Examples
    --------
    >>> import dataclasses
    >>> from ssae_debias.report.evaluation import example_evaluation
    >>> page = render_evaluation(dataclasses.replace(example_evaluation(), tables={}, circuits={}))
    >>> page.count("<script>"), page.count("<svg")
    (1, 0)
    """
    shown = plates(_checked(content))
    return _page(content, shown, {plate.name: _inline(plate) for plate in shown})


def _checked(content: EvaluationContent) -> EvaluationContent:
    if not isinstance(content, EvaluationContent):
        raise TypeError(
            f"the page of an evaluation takes an EvaluationContent, got {type(content).__name__}."
        )
    return content


def draw(plate: Plate) -> Drawn:
    """All pictures of a plate."""
    figure = plate.draw(WIDTH)
    label = _label(plate)
    with page_style():
        wide = lighter(to_svg(figure, label))
    svg, png = _files(plate, figure)
    with page_style():
        narrow = lighter(to_svg(plate.draw(NARROW), label))
    return Drawn(wide, narrow, svg, png)


def _inline(plate: Plate) -> Drawn:
    with page_style():
        wide, narrow = (lighter(to_svg(plate.draw(width), _label(plate))) for width in (WIDTH, NARROW))
    return Drawn(wide, narrow, "", b"")


def lighter(svg: str) -> str:
    """An SVG that looks the same in half the bytes: places to a hundredth of a point, nothing empty, no indents.

    Examples
    --------
    >>> lighter('<g>  <g/> <path d="M 1.234567 2.5 L 3.000000 4 "/><use x="1.239999"/> <text>1.234567</text></g>')
    '<g><path d="M 1.23 2.5 L 3.00 4 "/><use x="1.23"/><text>1.234567</text></g>'
    >>> lighter('<path d="M 1.234567 2.5 L 1.234567 2.52 M 4.5 6 L 4.5 6.01 "/>')
    '<path d="M 1.23 2.5 h0 M 4.5 6 h0 "/>'
    """
    svg = re.sub(r">\s+<", "><", svg).replace("<g/>", "")
    svg = re.sub(r' transform="rotate\(-0 [\d.]+ [\d.]+\)"', "", svg)
    return re.sub(r' (?:d="M|x="|y=")[^"]*"', _lighter_places, svg)


def _lighter_places(found: re.Match[str]) -> str:
    said = re.sub(r"(\.\d\d)\d+", r"\1", found[0].replace("\n", " "))
    return re.sub(r"M ([\d.]+) ([\d.]+) +L \1 ([\d.]+)(?= )", _dot, said)


def _dot(stroke: re.Match[str]) -> str:
    """A stroke as short as those of `dots` without its length; its round ends are what is seen."""
    short = abs(float(stroke[3]) - float(stroke[2])) < 0.06
    return f"M {stroke[1]} {stroke[2]} h0" if short else stroke[0]


def _label(plate: Plate) -> str:
    return f"{plate.title}. {plate.caption} The numbers stand in the table below."


def _files(plate: Plate, figure: Figure) -> tuple[str, bytes]:
    """The picture with its title on it, for places where no page stands around it."""
    with page_style(), warnings.catch_warnings():
        # A name may have letters that the font lacks; the SVG's reader has others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        _entitle(figure, plate.title)
        svg = _standing_alone(lighter(to_svg(figure, _label(plate))), figure)
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="png", dpi=DOTS_PER_INCH, facecolor=PALETTE["paper"], metadata={"Software": None}
        )
    return svg, buffer.getvalue()


def _entitle(figure: Figure, title: str) -> None:
    """Write the title over the key, or over the panels where there is none."""
    from matplotlib.font_manager import FontProperties

    size = 11 if figure.get_size_inches()[0] > 7 else 10
    if figure.legends:
        legend = figure.legends[0]
        legend.set_title(title, prop=FontProperties(size=size, weight="bold"))
        legend.set_alignment("left")
        legend.get_title().set_color(PALETTE["ink"])
    else:
        figure.suptitle(title, x=0.012, ha="left", fontsize=size, fontweight="bold", color=PALETTE["ink"])


def _standing_alone(svg: str, figure: Figure) -> str:
    """The page's SVG as a file: plain colours, for few viewers know CSS variables, a size, and paper behind it."""
    svg = re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", svg)
    width, height = (72 * inches for inches in figure.get_size_inches())
    size = f'width="{width:g}pt" height="{height:g}pt"'
    opened, rest = svg.split(">", 1)
    paper = f'<rect width="100%" height="100%" fill="{PALETTE["paper"]}"/>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{opened} {size}>{paper}{rest}\n'


def _page(content: EvaluationContent, shown: Sequence[Plate], pictures: Mapping[str, Drawn]) -> str:
    sections: dict[str, list[Plate]] = {}
    for plate in shown:
        sections.setdefault(plate.section, []).append(plate)
    looks = styles(content)
    table = content.table("interpretability")
    # Markup is right here: matplotlib escapes what it writes as text, and `to_svg` the label.
    return (
        page_environment()
        .get_template("evaluation_page.html.j2")
        .render(
            content=content,
            sections=sections,
            ids={name: f"part-{name.lower().replace(' ', '-')}" for name in sections},
            pictures={name: (Markup(drawn.wide), Markup(drawn.narrow)) for name, drawn in pictures.items()},
            looks=looks,
            explained=[] if table is None else explanations(table, looks),
            score_names={name: called for name, (called, _) in SCORES.items()},
            claims=listed_claims(content.claims),
            marks=VERDICT_MARKS,
            variants=variant_rows(content),
            facts=grouped(content.facts),
            seconds={part: duration(seconds) for part, seconds in content.seconds.items()},
            recipe=as_yaml(content.recipe) if content.recipe else "",
            assets=page_assets("evaluation.css"),
        )
    )
