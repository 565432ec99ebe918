"""What is left when a training is done: weights, configuration, card."""

import csv
import datetime
import platform
from pathlib import Path

import torch

from speechlm_lab.train import LOG, Training


def write_checkpoint(
    model, recipe: str, settings: str, data: str, metrics: dict, training: Training,
    folder: Path,
) -> None:  # fmt: skip
    """Save `model` with its configuration and a card, README.md, to `folder`."""
    model.save_pretrained(folder)
    count = sum(p.numel() for p in model.parameters())
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    with (folder / LOG).open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    values = ", ".join(
        f"{name} {value}"
        for name, value in last.items()
        if name not in ("step", "seconds", "learning_rate")
    )
    card = f"""\
---
license: apache-2.0
library_name: speechlm-lab
---

# SpeechLM Playbook: {recipe}

| | |
|---|---|
| recipe | `python -m speechlm_lab train {recipe}` |
| parameters | {count:,} |
| data | {data} |
| steps | {training.step:,} |
| training time | {training.seconds / 60:.1f} minutes, without making the data |
| hardware | {_hardware()} |
| date | {datetime.datetime.now(datetime.UTC).date()} |
{rows}

Last row of `log.csv`: {values}.

Settings: `{settings}`

The synthetic voices are those of eSpeak NG, a formant synthesiser.
"""
    (folder / "README.md").write_text(card, encoding="utf-8")


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        lines = cpus.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [x.split(":", 1)[1].strip() for x in lines if "model name" in x]
        name = models[0] if models else name
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
