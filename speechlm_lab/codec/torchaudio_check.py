"""torchaudio that imports, whichever build of it is installed."""

import importlib
import sys
from types import ModuleType


def ensure_torchaudio() -> None:
    """Make `import torchaudio` work beside a build of torch that it does not fit.

    torchaudio loads a compiled extension on import. The usual wheel is built for
    CUDA, and beside a CPU build of torch the import fails with OSError, and with it
    that of `dac` and of transformers' codecs. They need only the part in Python. So
    where the import fails, and only there, an empty extension stands in; it says
    what torchaudio's own says where nothing was compiled.
    """
    try:
        importlib.import_module("torchaudio")
    except OSError:
        extension = ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = extension
        importlib.import_module("torchaudio")
