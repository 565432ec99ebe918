"""The design's rules for chapters, held to the notebooks themselves."""

import ast
import hashlib
import importlib
import inspect
import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from speechlm_lab.building import chapters

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = chapters(ROOT)
KEEPS_OUTPUT = {"gpu", "network", "nbval-check-output"}


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell) -> str:
    return "".join(cell["source"])


def tags(cell) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def code_cells(path):
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def test_the_table_of_contents_lists_exactly_the_chapters():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = re.findall(r"chapters/(\w+)", json.dumps(toc))
    assert listed == [path.stem for path in CHAPTERS]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
class TestChapter:
    def test_code_cells_are_short(self, path):
        for cell in code_cells(path):
            lines = source(cell).splitlines()
            assert len(lines) <= 25, f"{cell['id']}: {len(lines)} lines"
            widest = max(map(len, lines), default=0)
            assert widest <= 79, f"{cell['id']}: {widest} columns"

    def test_only_cells_with_a_reason_keep_outputs(self, path):
        for cell in code_cells(path):
            if cell["outputs"]:
                assert tags(cell) & KEEPS_OUTPUT, cell["id"]
            if cell["outputs"] and "gpu" in tags(cell):  # of the code as it is now
                now = hashlib.sha256(source(cell).encode()).hexdigest()
                assert cell["metadata"]["ran_on"]["code"] == now, cell["id"]
            if "nbval-check-output" in tags(cell):
                assert cell["outputs"], f"{cell['id']}: run `speechlm-lab outputs`"

    def test_ids_are_names(self, path):
        ids = [cell["id"] for cell in cells(path)]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-z][a-z0-9-]+", name) for name in ids)

    def test_prose_comes_first(self, path):
        assert cells(path)[0]["cell_type"] == "markdown"
        in_a_row = 0
        for cell in cells(path):
            in_a_row = in_a_row + 1 if cell["cell_type"] == "code" else 0
            assert in_a_row <= 2, f"{cell['id']}: three code cells without a word"

    def test_code_shown_is_the_package_code(self, path):
        for cell in code_cells(path):
            for tag in tags(cell):
                if tag.startswith("defines:"):
                    name = tag.removeprefix("defines:")
                    assert without_docstrings(source(cell)) == package_source(name)

    def test_exercises_have_stub_checker_and_folded_solution(self, path):
        found = [cell for cell in code_cells(path) if "exercise" in tags(cell)]
        solutions = [cell for cell in code_cells(path) if "solution" in tags(cell)]
        if path.stem.startswith("00"):
            return
        assert 3 <= len(found) <= 5, f"{len(found)} exercises"
        assert len(solutions) == len(found)
        for cell in found:
            assert "check." in source(cell), f"{cell['id']} calls no checker"
        for cell in solutions:
            assert "hide-cell" in tags(cell), f"{cell['id']} is not folded"
            fold = cell["metadata"]["mystnb"]
            assert fold["code_prompt_show"] == "Show the solution", cell["id"]
            assert "check." in source(cell), f"{cell['id']} is not checked"

    def test_pictures_and_sounds_come_often(self, path):
        showing = re.compile(r"\b(plot|player|widgets)\.")
        shown = [bool(showing.search(source(c))) for c in code_cells(path)]
        assert sum(shown) >= 5

    def test_links_to_other_chapters_exist(self, path):
        for cell in cells(path):
            if cell["cell_type"] != "markdown":
                continue
            local = r"\]\((?!https?:|#|mailto:)([^)#\s]+)"
            for target in re.findall(local, source(cell)):
                assert (path.parent / target).exists(), target


def without_docstrings(text: str) -> str:
    """Code in one normal form: no docstrings, no comments, one spelling."""
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or not body:
            continue
        first = body[0]
        if isinstance(first, ast.Expr) and isinstance(
            getattr(first, "value", None), ast.Constant
        ):
            node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def package_source(name: str) -> str:
    """Source of one function or class, as ``module.name``."""
    module, _, thing = name.rpartition(".")
    found = getattr(importlib.import_module(f"speechlm_lab.{module}"), thing)
    return without_docstrings(inspect.getsource(found))


def test_each_definition_is_shown_once():
    shown = [
        tag
        for path in CHAPTERS
        for cell in code_cells(path)
        for tag in tags(cell)
        if tag.startswith("defines:")
    ]
    assert len(shown) == len(set(shown))


def test_the_comparison_of_definitions_can_fail():
    assert without_docstrings("def f():\n    'd'\n    return 1") == without_docstrings(
        "def f():\n    return 1  # comment"
    )
    assert without_docstrings("def f(): return 1") != without_docstrings(
        "def f(): return 2"
    )
