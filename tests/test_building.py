"""The book's build: what is stale, what fails, what is stored."""

import nbformat
import pytest
from elements import write_chapter as write
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from speechlm_lab import building


@pytest.fixture
def root(tmp_path):
    """A small project with one chapter and one module."""
    (tmp_path / "speechlm_lab").mkdir()
    (tmp_path / "speechlm_lab" / "a.py").write_text("x = 1\n")
    (tmp_path / "chapters").mkdir()
    (tmp_path / "requirements.lock").write_text("a==1\n")
    (tmp_path / "requirements-torch.txt").write_text("torch==1\n")
    write(tmp_path, ["print('one')", "y = 2"])
    return tmp_path


def test_a_change_of_code_pins_or_cells_makes_a_chapter_stale(root):
    chapter = building.chapters(root)[0]
    seen = [building.chapter_digest(chapter, root)]
    (root / "speechlm_lab" / "a.py").write_text("x = 2\n")
    seen.append(building.chapter_digest(chapter, root))
    (root / "requirements.lock").write_text("a==2\n")
    seen.append(building.chapter_digest(chapter, root))
    write(root, ["print('one')", "y = 3"])
    seen.append(building.chapter_digest(chapter, root))
    assert len(set(seen)) == 4


def test_prose_and_bytecode_make_nothing_stale(root):
    chapter = building.chapters(root)[0]
    before = building.chapter_digest(chapter, root)
    (root / "speechlm_lab" / "__pycache__").mkdir()
    (root / "speechlm_lab" / "__pycache__" / "a.pyc").write_text("z")
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell("words"))
    nbformat.write(notebook, chapter)
    assert building.chapter_digest(chapter, root) == before


def test_clean_removes_what_was_built(root):
    (root / "_build").mkdir()
    assert building.clean(root) == [root / "_build"]
    assert building.clean(root) == []


def test_sphinx_finds_what_was_executed(root):
    """Else it would run every chapter a second time, and show stale outputs."""
    tags = {0: ["hide-input"], 1: ["gpu", "skip-execution"]}
    path = write(root, ["print('one')", "y = 2"], tags)
    cache = get_cache(str(root / "cache"))
    assert not building.is_cached(cache, path)
    bundle = CacheBundleIn(building.execute(path, gpu=True), str(path), data={})
    cache.cache_notebook_bundle(bundle, check_validity=False)
    assert building.is_cached(cache, path)
    write(root, ["print('two')", "y = 2"], tags)
    assert not building.is_cached(cache, path)
