"""Build the book and run the tests: what `book` and `test` do.

Chapters are executed here, not by Sphinx, for three reasons: a changed package
makes every chapter stale (jupyter-cache sees only the notebook), a failing cell
is named, and ``gpu`` cells run where there is a GPU (see `executing`). The results
go into jupyter-cache, where ``jupyter-book build .`` finds them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from speechlm_lab.environment import LOCK, TORCH_PINS
from speechlm_lab.executing import (
    ANSI,
    CELL_TIMEOUT,
    BuildError,
    execute,
    store_outputs,
    subprocess_environment,
)


def chapters(root: Path) -> list[Path]:
    """The chapter notebooks, in order."""
    return sorted((root / "chapters").glob("[0-9][0-9]_*.ipynb"))


def _digest(paths: list[Path], root: Path) -> str:
    """SHA-256 over names and contents, so that a renamed file counts too."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "__pycache__")) for part in path.parts[-3:])
    ]


def code_digest(root: Path) -> str:
    """Changes with the package, its checkpoints, or a pin."""
    pins = [root / LOCK, root / TORCH_PINS]
    return _digest(_files(root / "speechlm_lab") + pins, root)


def chapter_digest(chapter: Path, root: Path) -> str:
    """Changes with a chapter's code cells or anything in `code_digest`."""
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    code = [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in cells
        if cell["cell_type"] == "code"
    ]
    text = json.dumps([code, code_digest(root)])
    return hashlib.sha256(text.encode()).hexdigest()


def build_book(root: Path, force: bool = False) -> Path:
    """Execute the chapters that are stale and build the site.

    Returns the path of its first page. Raises `BuildError`.
    """
    build = root / "_build"
    site = build / "html" / "index.html"
    pages = [root / "_config.yml", root / "_toc.yml", root / "README.md"]
    pages += _files(root / "book") + chapters(root)
    stamp = build / "site.sha256"
    now = _digest(pages, root) + code_digest(root)
    if not force and site.exists() and stamp.exists() and stamp.read_text() == now:
        print("Nothing changed since the last build.")
        return site
    stamp.unlink(missing_ok=True)
    _execute_stale(root, force)
    started = time.monotonic()
    print("  pages …", end="", flush=True)
    _sphinx(root)
    print(f" {time.monotonic() - started:.0f} s", flush=True)
    stamp.write_text(now)
    return site


def is_cached(cache, chapter: Path) -> bool:
    """True if jupyter-cache has outputs for the chapter as it is now."""
    import nbformat

    try:
        cache.match_cache_notebook(nbformat.read(chapter, as_version=4))
    except KeyError:
        return False
    return True


def _execute_stale(root: Path, force: bool) -> None:
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    record = root / "_build" / "executed.json"
    record.parent.mkdir(exist_ok=True)
    executed = json.loads(record.read_text()) if record.exists() else {}
    cache = get_cache(str(root / "_build" / ".jupyter_cache"))
    for chapter in chapters(root):
        digest = chapter_digest(chapter, root)
        fresh = executed.get(chapter.name) == digest and is_cached(cache, chapter)
        if fresh and not force:
            print(f"  {chapter.name}: unchanged")
            continue
        started = time.monotonic()
        print(f"  {chapter.name} …", end="", flush=True)
        notebook = execute(chapter)
        seconds = time.monotonic() - started
        print(f" {seconds:.0f} s", flush=True)
        bundle = CacheBundleIn(
            notebook, str(chapter), data={"execution_seconds": seconds}
        )
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        executed[chapter.name] = digest
        record.write_text(json.dumps(executed, indent=1))


def _sphinx(root: Path) -> None:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(root), "-W", "--keep-going", "-q"]
    done = subprocess.run(
        command,
        env=subprocess_environment(root),
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode == 0:
        return
    lines = ANSI.sub("", done.stdout).splitlines()
    told = [line for line in lines if "WARNING" in line or "ERROR" in line]
    crash = [i for i, line in enumerate(lines) if "Exception occurred" in line]
    shown = told or (lines[crash[0] :][:12] if crash else lines[-15:])
    raise BuildError(
        "the pages have errors:\n" + "\n".join(f"    {line}" for line in shown)
    )


def refresh_outputs(root: Path, names: list[str]) -> None:
    """Run chapters and store in their sources the outputs that belong there.

    `names` are chapter numbers or file names; empty means all. For authors.
    """
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    for chapter in chapters(root):
        if names and not any(chapter.name.startswith(Path(n).name) for n in names):
            continue
        count = store_outputs(chapter, execute(chapter), device)
        print(f"  {chapter.name}: {count} cells with stored output")


def run_tests(root: Path, extra: list[str]) -> int:
    """Lint, unit tests, and every chapter through nbval. Returns 0 if all pass.

    `extra` goes to the unit tests' pytest, for example ``-k spectral``.
    """
    python = [sys.executable, "-m"]
    environment = subprocess_environment(root)
    # one thread a worker: two pools of threads on the same cores get in each
    # other's way
    single = {**environment, "OMP_NUM_THREADS": "1"}
    steps = [
        ("lint", [*python, "ruff", "check", "."], environment),
        (
            "unit tests",
            [*python, "pytest", "-q", "-n", "auto", "tests", *extra],
            single,
        ),
        (
            "chapters",
            [*python, "pytest", "-q", "-n", "auto", "--dist", "loadfile"]
            + ["--nbval-lax", "--nbval-current-env"]
            + [f"--nbval-cell-timeout={CELL_TIMEOUT}"]
            + [str(chapter.relative_to(root)) for chapter in chapters(root)],
            single,
        ),
    ]
    failed = []
    for name, command, variables in steps:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        status = subprocess.call(command, cwd=root, env=variables)
        print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
        if status != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def clean(root: Path) -> list[Path]:
    """Remove what `book` and `test` made (not `.venv`, not downloads).

    Returns what was removed.
    """
    removed = []
    for name in ("_build", ".pytest_cache", ".ruff_cache", ".hypothesis"):
        if (root / name).exists():
            shutil.rmtree(root / name)
            removed.append(root / name)
    return removed
