"""What several tests share: a reader of HTML, a chapter, tests of checkers."""

from html.parser import HTMLParser

import nbformat
import pytest

from speechlm_lab import check


class Elements(HTMLParser):
    """All start tags of a page with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text, self.open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("input", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags are not nested"

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def write_chapter(root, sources, tags=None):
    """A notebook of these code cells, as the chapter of a small project."""
    notebook = nbformat.v4.new_notebook()
    for index, text in enumerate(sources):
        cell = nbformat.v4.new_code_cell(text, id=f"cell-{index}")
        cell.metadata["tags"] = (tags or {}).get(index, [])
        notebook.cells.append(cell)
    path = root / "chapters" / "00_x.ipynb"
    nbformat.write(notebook, path)
    return path


def checker_tests(chapter, right, mistakes):
    """A class of tests for all checkers of a chapter: name it `Test...` to run them.

    chapter: the module, such as `check.chapter_03`; right: {checker: right answer};
    mistakes: (checker, wrong answer, name of the mistake; None: it has no name).
    """

    class TestCheckers:
        def test_every_checker_is_tested(self):
            assert set(right) == set(chapter.__all__)
            assert {name for name, _, _ in mistakes} == set(right)

        @pytest.mark.parametrize("name", right)
        def test_the_right_answer_passes(self, name):
            report = getattr(check, name)(right[name])
            assert report.passed, report

        @pytest.mark.parametrize("name, answer, mistake", mistakes)
        def test_planted_mistakes_are_named(self, name, answer, mistake):
            report = getattr(check, name)(answer)
            assert not report.passed, report
            assert report.mistake == mistake, report

        @pytest.mark.parametrize("name", right)
        @pytest.mark.parametrize(
            "answer", [lambda *a: None, lambda *a: 1 / 0, 3, lambda *a: "text"]
        )
        def test_no_answer_makes_a_checker_raise(self, name, answer):
            report = getattr(check, name)(answer)
            assert not report.passed and report.message, report

    return TestCheckers
