"""Rules that hold for the whole repository, not for one module."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import speechlm_lab
from speechlm_lab import environment, pins

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "speechlm_lab"

# Lower concepts first. A module may import its own layer and those before it.
LAYERS = [
    ["waveform", "shipped"],
    ["whole_files"],
    ["audio"],
    ["audio_blocks"],
    ["mu_law"],
    ["spectral"],
    ["metrics"],
    ["watermark"],
    ["corpus"],
    ["quantize"],
    ["codes_file"],
    ["codec"],
    ["probes"],
    ["recogniser", "speaker"],
    ["speech_metrics", "lexicon"],
    ["patterns"],
    ["transformer"],
    ["stepping"],
    ["lm", "depth", "sampling"],
    ["layout"],
    ["memory"],
    ["timbre"],
    ["speaking"],
    ["speechlm"],
    ["parallel"],
    ["training_log"],
    ["train"],
    ["recipes"],
    ["assets", "plot", "player", "widgets"],
    ["check"],
    ["environment"],
    ["executing"],
    ["building", "pins"],
    ["saying"],
    ["cli", "__main__"],
]
NOT_FOR_CONCEPTS = {"plot", "player", "widgets", "train", "check"}


def tracked() -> list[Path]:
    """Files in git, or all files that git would take where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git clone")
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file()]


def modules() -> list[str]:
    found = pkgutil.walk_packages(speechlm_lab.__path__, "speechlm_lab.")
    return sorted(m.name for m in found if not m.name.endswith("__main__"))


def concept(name: str) -> str:
    """speechlm_lab.corpus.fsdd -> corpus"""
    return name.split(".")[1]


def imports_of(path: Path) -> set[str]:
    """Concepts of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "speechlm_lab":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("speechlm_lab."):
                found.add(concept(node.module))
        elif isinstance(node, ast.Import):
            found |= {
                concept(alias.name)
                for alias in node.names
                if alias.name.startswith("speechlm_lab.")
            }
    return found - {"__version__"}


def test_every_module_has_a_layer():
    known = {name for layer in LAYERS for name in layer}
    present = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    present |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert present <= known, "new modules: give them a place in LAYERS"


def test_imports_go_one_way():
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for other in imports_of(path):
            upward = rank[other] > rank[own]
            concept_sees_tools = other in NOT_FOR_CONCEPTS and rank[own] < rank["train"]
            if upward or concept_sees_tools:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_the_first_command_needs_the_standard_library_only():
    import sys

    for name in ("__init__", "__main__", "cli", "environment"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        for node in tree.body:  # the top level: functions import later
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for imported in names:
                top = imported.split(".")[0]
                assert top in sys.stdlib_module_names | {"speechlm_lab"}, name


@pytest.mark.parametrize("name", modules())
def test_what_is_public_is_documented(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module), f"{name} has no docstring"
    for label, thing in vars(module).items():
        if label.startswith("_") or getattr(thing, "__module__", None) != name:
            continue
        if not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        assert thing.__doc__, f"{name}.{label} has no docstring"
        if not inspect.isclass(thing):
            continue
        for method_name, method in vars(thing).items():
            if method_name.startswith("_") or not inspect.isfunction(method):
                continue
            documented = inspect.getdoc(getattr(thing, method_name))
            assert documented, f"{name}.{label}.{method_name} has no docstring"


def public_names(name: str) -> list[str]:
    """Functions and classes that a module defines for others."""
    return [
        label
        for label, thing in vars(importlib.import_module(name)).items()
        if not label.startswith("_") and getattr(thing, "__module__", None) == name
    ]


def test_every_module_is_under_test():
    """Some test names the module, or something public that it defines."""
    sources = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("*.py"))
    used = set(re.findall(r"\w+", sources))
    for name in modules():
        if match := re.search(r"check\.chapter_(\d\d)$", name):
            # the checkers of a chapter are reached through `check`, which finds them
            assert (ROOT / "tests" / f"test_check_{match[1]}.py").is_file()
            continue
        last = name.rsplit(".", 1)[-1]
        imported = re.search(rf"(from|import)[^\n]*\b{last}\b", sources)
        assert imported or used & set(public_names(name)), f"no test uses {name}"


def test_files_stay_readable():
    limit = 330  # lines; the design says near 300
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > limit
    ]
    assert not long


def test_environment_yml_has_the_same_pins():
    assert (ROOT / "environment.yml").read_text() == pins.conda_text(ROOT)


def test_the_lock_covers_what_the_project_asks_for():
    pinned = environment.read_pins(ROOT / environment.LOCK)
    pinned |= environment.read_pins(ROOT / environment.TORCH_PINS)
    missing = set(environment.direct_dependencies(ROOT)) - set(pinned)
    assert not missing, "run: python -m speechlm_lab pins"


def test_the_lock_is_hashed_and_holds_no_address():
    text = (ROOT / environment.LOCK).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text and "index-url" not in text


def test_no_registry_and_no_machine_path():
    hosts = "|".join(
        ["py" + r"pi\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs"]
    )
    private = r"(^|[^\w.-])/(work|farm|root|home/\w+)/"
    wrong = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(f"{hosts}|{private}", line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}")
    assert not wrong


def readme_tree() -> set[str]:
    """Top-level names in the tree that README.md draws."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tree -->\s*```\w*\n(.*?)```", text, re.DOTALL)
    assert block, "README.md has no block after <!-- tree -->"
    names = set()
    folder = ""
    for line in block[1].splitlines():
        match = re.match(r"(\s*)([\w./-]+)", line)
        if not match:
            continue
        if not match[1]:
            folder = match[2] if match[2].endswith("/") else ""
            names.add(match[2])
        else:
            names.add(folder + match[2])
    return names


def test_the_readme_tree_is_the_tree_on_disk():
    drawn = readme_tree()
    for name in drawn:
        path = ROOT / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name
    top = set()
    inside = set()
    for path in tracked():
        parts = path.relative_to(ROOT).parts
        top.add(parts[0] + ("/" if len(parts) > 1 else ""))
        if parts[0] == "speechlm_lab" and path.suffix == ".py":
            sub = parts[1] + ("/" if len(parts) > 2 else "")
            inside.add(f"speechlm_lab/{sub}")
    hidden = {name for name in top if name.startswith(".")}
    inside = {n for n in inside if "__" not in n}
    assert top - hidden <= drawn, f"not in the README: {top - hidden - drawn}"
    assert inside <= drawn, f"not in the README: {inside - drawn}"


CHAPTERS = sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))


def table_rows(page: str) -> dict[str, str]:
    """Rows of the tables of a page of the book, by the chapter that they link."""
    rows = (ROOT / "book" / page).read_text(encoding="utf-8").splitlines()
    return {
        match[1]: row
        for row in rows
        if (match := re.match(r"\| \[[^]]+\]\(\.\./chapters/(\w+)\.ipynb\)", row))
    }


@pytest.mark.parametrize("page", ["intro.md", "teaching.md"])
def test_the_book_lists_every_chapter_in_order(page):
    assert list(table_rows(page)) == [path.stem for path in CHAPTERS]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_lecturers_read_the_times_that_the_chapter_tells(path):
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    told = "".join(first).split("* - Time\n")[1].split("* - Memory")[0]
    row = table_rows("teaching.md")[path.stem]
    _, _, reading, exercises, _, _ = (cell.strip() for cell in row.split("|"))
    assert reading == re.search(r"(\d+ min)utes", told)[1]
    practice = re.search(r"(\d+) for the exercises", told)
    assert exercises == (f"{practice[1]} min" if practice else "none")


def test_the_ladder_names_modules_of_the_package():
    for row in table_rows("intro.md").values():
        for name in re.findall(r"`(\w+)`", row.split("|")[3]):
            importlib.import_module(f"speechlm_lab.{name}")
