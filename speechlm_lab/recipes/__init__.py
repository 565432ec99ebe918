"""Named trainings, each resumable and reproducible.

    python -m speechlm_lab train codec
    python -m speechlm_lab train codec-laptop
    python -m speechlm_lab train codec-decoder
    python -m speechlm_lab train lm --codec runs/codec
    python -m speechlm_lab train speechlm --codec runs/codec
    python -m speechlm_lab train speechlm-laptop
    python -m speechlm_lab train recogniser
    python -m speechlm_lab train speaker
    python -m speechlm_lab train dac-small

A training leaves `model.safetensors`, `config.json`, a card `README.md` and `log.csv`
in its folder. Stopped at any moment, by Ctrl-C or harder, the same command goes on
and ends in the same weights.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from speechlm_lab import parallel
from speechlm_lab.recipes.codec import CodecRecipe, codec_laptop, codec_strided
from speechlm_lab.recipes.dac_small import DacSmallRecipe
from speechlm_lab.recipes.decoder import DecoderRecipe
from speechlm_lab.recipes.lm import LMRecipe
from speechlm_lab.recipes.recogniser import RecogniserRecipe
from speechlm_lab.recipes.speaker import SpeakerRecipe
from speechlm_lab.recipes.speechlm import SpeechLMRecipe, speechlm_laptop
from speechlm_lab.train import TrainError, Training

RECIPES = {
    "codec": CodecRecipe,
    "codec-decoder": DecoderRecipe,
    "codec-laptop": codec_laptop,
    "codec-strided": codec_strided,
    "dac-small": DacSmallRecipe,
    "lm": LMRecipe,
    "recogniser": RecogniserRecipe,
    "speaker": SpeakerRecipe,
    "speechlm": SpeechLMRecipe,
    "speechlm-laptop": speechlm_laptop,
}

__all__ = [
    "RECIPES",
    "CodecRecipe",
    "DecoderRecipe",
    "DacSmallRecipe",
    "LMRecipe",
    "RecogniserRecipe",
    "SpeakerRecipe",
    "SpeechLMRecipe",
    "main",
    "run",
]


def run(
    name: str,
    out: str | Path | None = None,
    steps: int | None = None,
    resume: bool = True,
    threads: int | None = None,
    minutes: float | None = None,
    codec: str | None = None,
    processes: int | None = None,
) -> Training:
    """Run a recipe, by its `name` in RECIPES, in the folder `out` (runs/<name>).

    `steps`, `threads`, `minutes` (of training audio) replace those of the recipe, and
    so does `processes`, but they are started by `main`;
    `codec` is the folder of the codec that "lm" or "speechlm" learns from. Without
    `resume` a training in `out` is begun anew. Raises TrainError with the remedy.
    """
    if name not in RECIPES:
        raise TrainError(f"no recipe {name!r}: choose from {', '.join(RECIPES)}")
    # a GPU multiplies several times faster so; what it loses, training does not miss
    torch.backends.cuda.matmul.allow_tf32 = True
    recipe = RECIPES[name]()
    numbers = {
        "steps": steps, "threads": threads, "processes": processes, "minutes": minutes
    }  # fmt: skip
    for option, value in numbers.items():
        if value is not None and not 0 < value < float("inf"):
            raise TrainError(f"{option} must be more than 0, not {value}")
    changes = {"steps": steps, "threads": threads, "processes": processes}
    changes = {key: value for key, value in changes.items() if value is not None}
    recipe = replace(recipe, train=replace(recipe.train, **changes))
    if minutes is not None:
        if not hasattr(recipe, "pool"):
            raise TrainError(f"the recipe {name} keeps no audio: leave minutes out")
        recipe = replace(recipe, pool=replace(recipe.pool, minutes=minutes))
    if codec is not None:
        if name not in ("lm", "speechlm"):
            raise TrainError("only the recipes lm and speechlm take a codec")
        recipe = replace(recipe, codec=str(codec))
    return recipe.run(Path(out or Path("runs") / name), resume)


def main(argv: list[str] | None = None) -> int:
    """The command line of `run`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="speechlm-lab train",
        description="Train a model by its recipe; the same command resumes it.",
    )
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--out", type=Path, help="folder (default: runs/<name>)")
    parser.add_argument("--steps", type=int, help="optimizer steps in all")
    parser.add_argument("--minutes", type=float, help="minutes of training audio")
    parser.add_argument("--threads", type=int, help="CPU threads of each process")
    parser.add_argument(
        "--processes", type=int, help="that share the work (default: the recipe's)"
    )
    parser.add_argument(
        "--codec", help="folder of the codec of lm and speechlm (default: shipped)"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="begin anew instead of resuming what is in the folder",
    )
    argv = sys.argv[1:] if argv is None else argv
    options = vars(parser.parse_args(argv))
    processes = options["processes"] or _processes(options["name"])
    if processes > 1 and parallel.count() == 1:
        return parallel.launch(processes, ["train", *argv])
    resume = not options.pop("restart")
    try:
        training = run(**options, resume=resume)
    except TrainError as error:
        print(f"speechlm-lab train: {error}", file=sys.stderr)
        return 1
    if not training.finished:
        if parallel.rank() == 0:
            print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _processes(name: str) -> int:
    """How many processes share a recipe's work on this machine."""
    wanted = RECIPES[name]().train.processes
    return torch.cuda.device_count() or min(wanted, os.cpu_count() or 1)
