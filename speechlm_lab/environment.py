"""The environment that everything runs in: found, or made on the first use.

Standard library only, because nothing else is there yet. `ensure` is the one
entry: it returns in an environment that can run the project, or hands the
command over to one that it has just made.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

PYTHON_MINIMUM = (3, 11)
PACKAGE = Path(__file__).resolve().parent
LOCK = "requirements.lock"  # everything but the torch family, hashed
TORCH_PINS = "requirements-torch.txt"  # the torch family, by version
# files in .venv: the digest of the pins it was made from, and a mark of work under way
STAMP, UNFINISHED = "pins.sha256", "unfinished"


class SetupError(RuntimeError):
    """The environment cannot be made; the message says what to do."""


def project_root() -> Path | None:
    """The clone that this package lies in, or None if it was installed."""
    root = PACKAGE.parent
    return root if (root / LOCK).is_file() else None


def read_pins(path: Path) -> dict[str, str]:
    """Names and versions that a requirements file pins, markers left out.

    Returns normalised names (lower case, ``-``) to versions.
    """
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line)
        if match:
            pins[_normalise(match[1])] = match[2]
    return pins


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_digest(root: Path) -> str:
    """SHA-256 (hex) over both pin files: it changes when any pin does."""
    digest = hashlib.sha256()
    for name in (LOCK, TORCH_PINS):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def direct_dependencies(root: Path) -> list[str]:
    """Distribution names that the project asks for by itself."""
    import tomllib

    with open(root / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    return [_normalise(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in wanted]


def missing_here(root: Path) -> list[str]:
    """Direct dependencies that this interpreter lacks."""
    missing = []
    for name in direct_dependencies(root):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def ensure(arguments: list[str]) -> int | None:
    """Make sure that the project can run, then run it.

    Returns None if this interpreter is the right one: go on. Otherwise the
    command is run again by ``.venv`` and its exit status is returned. With
    every dependency present (conda, Colab, a container) no ``.venv`` is made.

    Raises `SetupError` with one line that says what to do.
    """
    if sys.version_info < PYTHON_MINIMUM:
        wanted = ".".join(map(str, PYTHON_MINIMUM))
        have = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Python {wanted} or newer is needed and this is {have}: run the "
            f"command with a newer one, for example python{wanted} -m speechlm_lab"
        )
    root = project_root()
    if root is None:
        return None  # installed with pip: pip has seen to the dependencies
    venv = root / ".venv"
    inside = Path(sys.prefix).resolve() == venv.resolve()
    if not inside and not missing_here(root):
        return None
    if not is_ready(venv, root):
        install(venv, root)
    if inside:
        return None
    command = [str(interpreter(venv)), "-m", "speechlm_lab", *arguments]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    try:
        return subprocess.call(command, env=environment)
    except KeyboardInterrupt:
        return 130


def interpreter(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_ready(venv: Path, root: Path) -> bool:
    """True if `venv` was finished, from the pins as they are now."""
    stamp = venv / STAMP
    return (
        interpreter(venv).exists()
        and not (venv / UNFINISHED).exists()
        and stamp.is_file()
        and stamp.read_text() == pins_digest(root)
    )


def install(venv: Path, root: Path) -> None:
    """Make or mend ``.venv``. One that this was interrupted in is begun anew by the
    next command, from what pip has downloaded; others are built upon."""
    started = time.monotonic()
    print(f"Setting up {venv} (first use, or the pins changed)", flush=True)
    log = root / ".venv-setup.log"
    log.unlink(missing_ok=True)
    python = interpreter(venv)
    unfinished = venv / UNFINISHED
    inside = Path(sys.prefix).resolve() == venv.resolve()
    if unfinished.exists() and not inside:
        # an earlier try may have left half a package, on which pip would trip
        shutil.rmtree(venv)
    new = not venv.exists()
    venv.mkdir(exist_ok=True)
    unfinished.touch()
    if new:
        make = [sys.executable, "-m", "venv", venv]
        _step("1/4 an empty environment", make, log)
    else:
        print("  1/4 an empty environment: already there")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    _step(
        "2/4 the pinned packages, each checked by its hash",
        [*pip, "--no-deps", "--require-hashes", "-r", root / LOCK],
        log,
    )
    _install_torch(pip, python, root, log)
    _step(
        "4/4 speechlm_lab itself",
        [*pip, "--no-deps", "--no-build-isolation", "-e", root],
        log,
    )
    (venv / STAMP).write_text(pins_digest(root))
    unfinished.unlink()
    log.unlink(missing_ok=True)
    print(f"  ready in {time.monotonic() - started:.0f} s: {venv}", flush=True)


def has_nvidia_gpu() -> bool:
    """True if the NVIDIA driver answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    return subprocess.run([tool, "-L"], capture_output=True).returncode == 0


def _install_torch(pip: list, python: Path, root: Path, log: Path) -> None:
    """The CPU wheel where there is no NVIDIA GPU, else the one for its driver.

    On Linux the plain name is the CUDA build, with gigabytes of libraries that
    a laptop without such a GPU cannot use. The CPU build is asked for first
    where pip is set up to find it, then through uv, which knows where it lies.
    torchaudio comes without its dependencies: only its Python parts are used.
    """
    pins = read_pins(root / TORCH_PINS)
    torch, audio = f"torch=={pins['torch']}", f"torchaudio=={pins['torchaudio']}"
    gpu = has_nvidia_gpu()
    uv = [python, "-m", "uv", "pip", "install", "--python", python]
    attempts = [
        [*uv, torch, "--torch-backend", "auto" if gpu else "cpu"],
        [*pip, torch],
    ]
    if not gpu and sys.platform == "linux":
        attempts.insert(0, [*pip, f"{torch}+cpu"])
    kind = "for the NVIDIA GPU" if gpu else "for the CPU"
    title = f"3/4 torch {pins['torch']} {kind}"
    for number, command in enumerate(attempts, 1):
        try:
            _step(title, command, log)
            break
        except SetupError:
            if number == len(attempts):
                raise
            print("  not found this way, trying the next", flush=True)
    _run([*pip, "--no-deps", audio], log, "torchaudio")


def _step(title: str, command: list, log: Path) -> None:
    started = time.monotonic()
    print(f"  {title} …", end="", flush=True)
    try:
        _run(command, log, title)
    except SetupError:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - started:.0f} s", flush=True)


def _run(command: list, log: Path, title: str) -> None:
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n")
        file.flush()
        done = subprocess.run(
            [str(part) for part in command], stdout=file, stderr=subprocess.STDOUT
        )
    if done.returncode == 0:
        return
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
    hint = "Is there a network? Run the command again to go on from here."
    if "ensurepip" in "\n".join(tail):
        hint = "Install your system's venv package first (Debian: python3-venv)."
    raise SetupError(
        f"the set-up stopped at «{title}». {hint} The whole log is {log}; it ends:\n"
        + "\n".join(f"    {line}" for line in tail)
    )
