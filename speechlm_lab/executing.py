"""Run a chapter from top to bottom, and keep of its outputs what its source keeps.

Cells that need a GPU or a network are tagged ``skip-execution``. Those also tagged
``gpu`` run where CUDA is present. Elsewhere the page shows what they printed on a GPU,
with its name and the date, or says that they have not run on one yet.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

CELL_TIMEOUT = 600  # seconds; a dead kernel is noticed only then
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class BuildError(RuntimeError):
    """The book or a chapter failed; the message names the place."""


def execute(chapter: Path, gpu: bool | None = None):
    """Run a chapter from top to bottom in its own kernel.

    Cells tagged ``skip-execution`` keep their stored output, except that those
    also tagged ``gpu`` run when `gpu` is true (None: when CUDA is present). Those that
    do not run say so.

    Returns the executed notebook. Raises `BuildError` with chapter and cell.
    """
    import nbformat
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient, exceptions

    if gpu is None:
        import torch

        gpu = torch.cuda.is_available()
    notebook = nbformat.read(chapter, as_version=4)
    tagged = [nbformat.from_dict(cell.metadata) for cell in notebook.cells]
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if gpu and "gpu" in tags and "skip-execution" in tags:
            cell.metadata["tags"] = [tag for tag in tags if tag != "skip-execution"]
    client = NotebookClient(
        notebook,
        km=KernelManager(kernel_name="python3"),
        extra_arguments=["--log-level=40"],  # errors only
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(chapter.parent)}},
        skip_cells_with_tag="skip-execution",
        record_timing=False,
        coalesce_streams=True,  # what a cell prints is one box, however it came
    )
    running = {}
    client.on_cell_start = lambda **cell: running.update(cell)
    try:
        client.execute(env=subprocess_environment(chapter.parent.parent))
    except (
        exceptions.CellExecutionError,
        exceptions.CellTimeoutError,
        exceptions.DeadKernelError,
    ) as error:
        cell = running.get("cell", {})
        index = running.get("cell_index", "?")
        text = ANSI.sub("", str(error)).strip().splitlines()
        raise BuildError(
            f"{chapter.name}, cell {index} (id {cell.get('id', '?')}) failed:\n"
            + "\n".join(f"    {line}" for line in text[-12:])
        ) from None
    # jupyter-cache knows a notebook by its code cells, their metadata included
    for cell, original in zip(notebook.cells, tagged, strict=True):
        if "gpu" in cell.metadata.get("tags", []) and not gpu:
            cell.outputs = [*cell.outputs, _origin(original.get("ran_on"))]
        cell.metadata = original
    return notebook


def _origin(ran_on: dict | None):
    """An output that says where the others of a ``gpu`` cell come from."""
    import nbformat

    text = "This cell needs an NVIDIA GPU, and has not been run on one yet.\n"
    if ran_on:
        text = f"Ran on {ran_on['device']}, {ran_on['date']}.\n"
    return nbformat.v4.new_output("stream", text=text)


def store_outputs(chapter: Path, executed, device: str | None = None) -> int:
    """Bring a chapter's source in order after a run: the outputs of cells tagged
    ``nbval-check-output`` are stored, those of ``gpu`` cells too if `device`
    names the GPU that they ran on (with date and SHA-256 of the cell); all other
    outputs go, except that ``gpu`` and ``network`` cells keep what they had.

    Returns the number of cells with stored outputs.
    """
    import nbformat

    source = nbformat.read(chapter, as_version=4)
    stored = 0
    for cell, done in zip(source.cells, executed.cells, strict=True):
        if cell.cell_type != "code":
            continue
        tags = set(cell.metadata.get("tags", []))
        if "nbval-check-output" in tags or ("gpu" in tags and device):
            cell.outputs = _joined(done.outputs)
            cell.execution_count = done.execution_count
        elif not tags & {"gpu", "network"}:
            cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("execution", None)
        if "gpu" in tags and device:
            cell.metadata["ran_on"] = {
                "device": device,
                "date": time.strftime("%Y-%m-%d"),
                "code": hashlib.sha256(cell.source.encode()).hexdigest(),
            }
        stored += bool(cell.outputs)
    nbformat.write(source, chapter)
    return stored


def _joined(outputs: list) -> list:
    """Outputs with neighbouring pieces of one stream made one.

    On a busy machine a kernel sends what a cell prints in several pieces.
    """
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if "name" in output and output["name"] == last.get("name"):
            last["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def subprocess_environment(root: Path) -> dict[str, str]:
    """What subprocesses see: the package importable from any folder."""
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # threads that wait give the core away: on a busy machine, spinning ones make
    # torch many times slower
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path}
