"""The documentation: links that lead somewhere, commands that exist, examples that run. Sphinx is not needed."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import itertools
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ssae_debias.cli import COMMANDS, _parser
from ssae_debias.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.glob("*.md")),
]
FENCED = re.compile(r"^```(\S*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its code, where brackets and # mean other things."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"^ {4,}.*$|`[^`\n]*`", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST make them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    slugs = [
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings
    ]
    numbered = [
        f"{slug}-{slugs[:i].count(slug)}" if slug in slugs[:i] else slug for i, slug in enumerate(slugs)
    ]
    return set(numbered)


# links


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path).resolve()
        generated = file.is_relative_to(DOCS / "api")
        assert generated or file.exists(), f"{page_name(page)} links to {target}, which is not there"
        assert file.is_relative_to(ROOT), f"{page_name(page)} links to {target}, outside the repository"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), (
                f"{page_name(page)} links to {target}; {file.name} has no such heading"
            )


def test_every_page_is_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {
        line for kind, block in FENCED.findall(index) if kind == "{toctree}" for line in block.split("\n")
    }
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= listed


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_names_of_files_are_names_of_files(page: Path) -> None:
    """`docs/engine.md`, `recipes/scr.yaml`, `tests/test_kills.py` in the running text."""
    named = re.findall(
        r"`((?:docs|recipes|examples|benchmarks|tests)/[\w./]+\.(?:md|yaml|py))[^`]*`",
        page.read_text("utf-8"),
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, f"{page_name(page)} names {', '.join(missing)}"


# commands


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines of a page, split into words: those of code blocks and those in backticks."""
    text = page.read_text(encoding="utf-8")
    lines = [line for _, block in FENCED.findall(text) for line in block.replace("\\\n", " ").split("\n")]
    outside = FENCED.sub("", text)
    lines += re.findall(r"^ {4,}(.*)$", re.sub(r"\\\n *", " ", outside), re.MULTILINE)
    lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", outside)
    for line in lines:
        if re.match(r"(ssae-debias|python|torchrun|make|pip) \S", line):
            yield [word for word in shlex.split(line, comments=True) if word != "…"]


ALL_COMMANDS = sorted({(page_name(page), shlex.join(words)) for page in PAGES for words in commands(page)})


@cache
def options_of(script: str) -> frozenset[str]:
    """The options that a script adds to its parser."""
    return frozenset(
        re.findall(r"add_argument\(\s*\"(-[\w-]+)\"", (ROOT / script).read_text(encoding="utf-8"))
    )


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def check_own(words: list[str]) -> None:
    """`ssae-debias …`: the command and its options are there; of a recipe, the keys that are set, too."""
    if not words or words[0] not in COMMANDS:
        assert not words or words[0] in ("COMMAND", "--help", "--version"), f"no command {words[0]}"
        return
    command = importlib.import_module(f"ssae_debias.cli.{words[0]}")
    parser = _parser()._subparsers._group_actions[0].choices[words[0]]  # type: ignore[union-attr, index]
    command.add_arguments(parser)
    unknown = [
        word for word in words[1:] if word.startswith("--") and word not in parser._option_string_actions
    ]
    assert not unknown, f"ssae-debias {words[0]} has no {', '.join(unknown)}"
    if words[0] == "run" and len(words) > 1 and words[1].endswith(".yaml"):
        assert (ROOT / words[1]).is_file(), f"no recipe {words[1]}"
        read_recipe(ROOT / words[1], [after for word, after in itertools.pairwise(words) if word == "--set"])


def check(words: list[str]) -> None:
    if words[0] == "torchrun":
        module = words.index("-m")
        assert words[module + 1] == "ssae_debias"
        check_own(words[module + 2 :])
    elif words[0] == "ssae-debias":
        check_own(words[1:])
    elif words[:3] == ["python", "-m", "ssae_debias"]:
        check_own(words[3:])
    elif words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert set(targets) <= make_targets(), f"no target {targets} in the Makefile"
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        for asked in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            assert set(asked.split(",")) <= set(extras), f"no extra {asked}"
    else:
        assert (ROOT / words[1]).is_file(), f"no script {words[1]}"
        unknown = {word for word in words[2:] if word.startswith("--")} - options_of(words[1])
        assert not unknown, f"{words[1]} has no {', '.join(sorted(unknown))}"


@pytest.mark.parametrize(("page", "line"), ALL_COMMANDS, ids=[" ".join(both) for both in ALL_COMMANDS])
def test_commands_exist(page: str, line: str) -> None:
    check(shlex.split(line))


def test_the_readme_names_commands() -> None:
    found = {line.split(" ")[0] for page, line in ALL_COMMANDS if page == "README.md"}
    assert found >= {"make", "ssae-debias", "python"}


@pytest.mark.parametrize(
    "line",
    [
        "make nothing",
        "ssae-debias nothing",
        "ssae-debias audit --nothing",
        "ssae-debias run recipes/nothing.yaml",
        "ssae-debias run recipes/bias_in_bios_demo.yaml --set ssae.nothing=1",
        "python examples/nothing.py",
        "python examples/audit_text_classifier.py --nothing",
        "pip install 'ssae-debias[nothing]'",
    ],
)
def test_commands_that_do_not_exist_are_found_out(line: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(shlex.split(line))


# examples


RUN = [page for page in PAGES if any(kind == "pycon" for kind, _ in FENCED.findall(page.read_text("utf-8")))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=page_name)
def test_examples_run(page: Path, minilm_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ``pycon`` block, those of a page one after the other; what they print is what stands there."""
    monkeypatch.chdir(tmp_path)
    blocks = [block for kind, block in FENCED.findall(page.read_text(encoding="utf-8")) if kind == "pycon"]
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert not said, "".join(said)


def test_prompts_stand_in_blocks_that_are_run() -> None:
    for page in PAGES:
        for kind, block in FENCED.findall(page.read_text(encoding="utf-8")):
            assert kind == "pycon" or ">>> " not in block, f"{page_name(page)}: an example that is not run"


# the API's pages


@pytest.fixture(scope="module")
def api_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_pages", DOCS / "_extensions" / "api_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_exported_name_has_one_entry(api_pages: ModuleType, tmp_path: Path) -> None:
    api_pages.write_pages(ROOT / "ssae_debias", tmp_path / "api")
    written = "\n".join(file.read_text(encoding="utf-8") for file in (tmp_path / "api").glob("*.rst"))
    entries = re.findall(r"^\.\. auto(?:function|class):: (\S+)$", written, re.MULTILINE)
    entries += [f"{module}.{name}" for name, module in re.findall(r"^\.\. py:data:: (\S+)\n   :module: (\S+)$", written, re.MULTILINE)]  # fmt: skip
    assert len(entries) == len(set(entries))
    modules = api_pages.read_package(ROOT / "ssae_debias")
    exporting = [module for module in modules.values() if module.exported]
    assert len(exporting) > 20
    for module in exporting:
        exported: Any = importlib.import_module(module.path).__all__
        assert set(exported) == set(module.exported)
        assert set(api_pages.exported_paths(modules, module.path)) <= set(entries)


def test_a_new_name_appears(api_pages: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "ours"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Ours."""\n')
    (package / "inner" / "__init__.py").write_text(
        '"""Inner."""\nfrom ours.inner.thing import SIZES, thing\n__all__ = ["SIZES", "thing"]\n'
    )
    (package / "inner" / "thing.py").write_text(
        '"""A thing."""\nSIZES = (1, 2)\n"""Its sizes."""\ndef thing():\n    """It."""\n'
        "def _hidden(): ...\nclass Found:\n    pass\n"
    )
    api_pages.write_pages(package, tmp_path / "api")
    page = (tmp_path / "api" / "ours.inner.thing.rst").read_text()
    assert ".. autofunction:: ours.inner.thing\n" in page
    assert ".. autoclass:: ours.inner.thing.Found\n" in page
    assert ":value: (1, 2)\n\n   Its sizes." in page
    assert "_hidden" not in page
    assert ":no-index:" in page  # a module and what it exports share a name
    assert ":py:obj:`thing <ours.inner.thing>`" in (tmp_path / "api" / "ours.inner.rst").read_text()
