"""Neural audio codecs: waves to codes and back."""

import contextlib
import io
from pathlib import Path

from speechlm_lab.codec.base import Coded
from speechlm_lab.codec.config import CodecConfig
from speechlm_lab.codec.losses import SpectralLoss
from speechlm_lab.codec.model import Codec
from speechlm_lab.codec.strided import StridedCodec, StridedConfig

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "codec"

__all__ = [
    "SHIPPED",
    "Codec",
    "CodecConfig",
    "Coded",
    "SpectralLoss",
    "StridedCodec",
    "StridedConfig",
    "load_shipped",
]


def load_shipped() -> Codec:
    """The codec whose checkpoint comes with the package, ready to use.

    Raises FileNotFoundError when it is not there.
    """
    if not (SHIPPED / "model.safetensors").exists():
        raise FileNotFoundError(
            "this package has no codec checkpoint: train one with "
            "`python -m speechlm_lab train codec`, then use Codec.from_pretrained"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # the mixin prints its progress
        return Codec.from_pretrained(SHIPPED).eval()
