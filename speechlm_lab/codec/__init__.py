"""Neural audio codecs: waves to codes and back."""

from speechlm_lab import shipped
from speechlm_lab.codec.base import Coded
from speechlm_lab.codec.config import CodecConfig
from speechlm_lab.codec.losses import SpectralLoss
from speechlm_lab.codec.model import Codec
from speechlm_lab.codec.strided import StridedCodec, StridedConfig

SHIPPED = shipped.CHECKPOINTS / "codec"

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
    return shipped.load_shipped(Codec, "codec")
