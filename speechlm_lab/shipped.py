"""The checkpoints that come with the package."""

import contextlib
import io
from pathlib import Path
from typing import TypeVar

from huggingface_hub import PyTorchModelHubMixin

CHECKPOINTS = Path(__file__).parent / "checkpoints"
Model = TypeVar("Model", bound=PyTorchModelHubMixin)


def load(kind: type[Model], folder: str | Path) -> Model:
    """`kind.from_pretrained`, without what it prints, ready to use."""
    with contextlib.redirect_stdout(io.StringIO()):
        return kind.from_pretrained(folder).eval()


def load_shipped(kind: type[Model], name: str, recipe: str | None = None) -> Model:
    """The model of the folder `name` of CHECKPOINTS.

    Raises FileNotFoundError, with the command that trains one (`recipe`, None: that of
    the same name), when it is not there.
    """
    if not (CHECKPOINTS / name / "model.safetensors").exists():
        raise FileNotFoundError(
            f"this package has no {name} checkpoint: train one with `python -m "
            f"speechlm_lab train {recipe or name}`, then use "
            f"{kind.__name__}.from_pretrained with its folder"
        )
    return load(kind, CHECKPOINTS / name)
