"""Chapters are run; what fails, what is stored, and what is said of a GPU."""

import nbformat
import pytest
from elements import write_chapter as write

from speechlm_lab import executing


@pytest.fixture
def root(tmp_path):
    (tmp_path / "chapters").mkdir()
    return tmp_path


def test_a_failing_cell_is_named(root):
    path = write(root, ["x = 1", "x / 0"])
    with pytest.raises(executing.BuildError) as caught:
        executing.execute(path)
    message = str(caught.value)
    assert "00_x.ipynb, cell 1 (id cell-1)" in message
    assert "ZeroDivisionError" in message


def test_what_a_cell_prints_is_one_output(root):
    source = "for i in range(3):\n    print(i, flush=True)\n    time.sleep(0.3)"
    (cell,) = executing.execute(write(root, ["import time\n" + source])).cells
    assert [output.text for output in cell.outputs] == ["0\n1\n2\n"]


def test_gpu_cells_run_with_a_gpu_and_keep_their_output_without(root):
    tags = {1: ["gpu", "skip-execution"]}
    path = write(root, ["x = 1", "print(x)"], tags)
    (note,) = executing.execute(path, gpu=False).cells[1].outputs
    assert "needs an NVIDIA GPU, and has not been run" in note.text
    done = executing.execute(path, gpu=True)
    assert done.cells[1].outputs[0].text == "1\n"
    executing.store_outputs(path, done, device="some GPU")
    stored = nbformat.read(path, as_version=4).cells[1]
    assert stored.outputs[0].text == "1\n"
    assert stored.metadata["ran_on"]["device"] == "some GPU"
    assert "skip-execution" in stored.metadata["tags"]
    # a later run without a GPU keeps what is stored
    executing.store_outputs(path, executing.execute(path, gpu=False))
    again = nbformat.read(path, as_version=4).cells[1]
    assert again.outputs == stored.outputs
    # which the page shows, and says where they come from
    shown = executing.execute(path, gpu=False).cells[1].outputs
    printed, origin = (output.text for output in shown)
    assert printed == "1\n"
    assert origin == f"Ran on some GPU, {stored.metadata.ran_on.date}.\n"


def test_only_checked_cells_keep_their_outputs(root):
    path = write(root, ["print(1)", "print(2)"], {1: ["nbval-check-output"]})
    assert executing.store_outputs(path, executing.execute(path)) == 1
    kept = nbformat.read(path, as_version=4)
    assert kept.cells[0].outputs == []
    assert kept.cells[1].outputs[0].text == "2\n"


def test_what_a_cell_prints_in_pieces_is_stored_in_one(tmp_path):
    def printed(name, text):
        return nbformat.v4.new_output("stream", name=name, text=text)

    cell = nbformat.v4.new_code_cell("1", metadata={"tags": ["nbval-check-output"]})
    path = tmp_path / "01_x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    done = nbformat.read(path, as_version=4)
    pieces = [("stdout", "a\n"), ("stdout", "b\n"), ("stderr", "c"), ("stdout", "d")]
    done.cells[0].outputs = [printed(*piece) for piece in pieces]
    executing.store_outputs(path, done)
    (stored,) = nbformat.read(path, as_version=4).cells
    texts = [output.text for output in stored.outputs]
    assert texts == ["a\nb\n", "c", "d"]
