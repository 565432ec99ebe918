"""Models in folders: those that come with the package, and those of a training."""

import contextlib
import io
from pathlib import Path
from typing import TypeVar

from huggingface_hub import PyTorchModelHubMixin

CHECKPOINTS = Path(__file__).parent / "checkpoints"
FILES = ("config.json", "model.safetensors")


class Pretrained(PyTorchModelHubMixin):
    """`from_pretrained` that takes only a file that holds each weight, and no other."""

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **settings):
        return super()._from_pretrained(strict=strict, **settings)


Model = TypeVar("Model", bound=Pretrained)


def load(kind: type[Model], folder: str | Path) -> Model:
    """The model in `folder`, ready to use.

    Raises ValueError, with the remedy, where the folder holds no such model, or not all
    of it.
    """
    if not all((Path(folder) / name).is_file() for name in FILES):
        raise ValueError(
            f"{folder} holds no {kind.__name__}: give a folder with "
            f"{' and '.join(FILES)}, as a training or save_pretrained writes it"
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the mixin tells its progress
            return kind.from_pretrained(folder).eval()
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:100]
        raise ValueError(
            f"the {kind.__name__} in {folder} cannot be read ({reason} ...): name "
            "another folder, or train or copy it again"
        ) from error


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
