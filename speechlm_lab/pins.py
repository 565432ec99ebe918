"""Refresh requirements.lock and environment.yml: what `pins` does, for maintainers.

requirements.lock is universal and hashed, holds no address, and leaves the torch
family out, whose CPU and CUDA wheels differ. environment.yml repeats the same
versions for conda and mamba.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from speechlm_lab.environment import LOCK, TORCH_PINS, SetupError, read_pins

# what the torch wheels bring along, or not, by platform
TORCH_FAMILY = re.compile(r"^(torch|torchaudio|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==")
CONDA_HEAD = """\
# For conda and mamba: the same versions as requirements.lock and
# requirements-torch.txt, which `python -m speechlm_lab pins` writes here.
# On Linux pip takes the CUDA build of torch, also where there is no NVIDIA GPU;
# it runs there, and is large. The README's two commands take the small one.
name: speechlm
channels: [conda-forge]
dependencies:
  - python=3.12
  - pip
  - pip:
"""


def refresh(root: Path) -> None:
    """Resolve pyproject.toml anew and write both files. Needs the network.

    Raises `SetupError` if the resolver finds no solution.
    """
    # a first pass without hashes tells which packages torch would bring
    plain = _compile(root, [])
    family = [line.split("==")[0] for line in plain if TORCH_FAMILY.match(line)]
    skip = [part for name in family for part in ("--no-emit-package", name)]
    _compile(root, [*skip, "--generate-hashes", "-o", str(root / LOCK)])
    (root / "environment.yml").write_text(conda_text(root), encoding="utf-8")


def conda_text(root: Path) -> str:
    """What environment.yml has to be, given the two pin files."""
    lines = []
    for line in (root / LOCK).read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            lines.append(line.rstrip(" \\"))
    lines += [f"{name}=={v}" for name, v in read_pins(root / TORCH_PINS).items()]
    quoted = [f'      - "{line}"' for line in lines]
    return CONDA_HEAD + "\n".join(quoted) + "\n"


def _compile(root: Path, options: list[str]) -> list[str]:
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml"]
    command += ["--extra", "dev", "--universal", "--python-version", "3.11"]
    command += ["--fork-strategy", "fewest", "-c", TORCH_PINS]
    command += ["--no-emit-index-url", "--no-annotate", "--no-header"]
    done = subprocess.run(
        [*command, *options], cwd=root, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SetupError(f"the pins could not be resolved:\n{done.stderr.strip()}")
    return done.stdout.splitlines()
