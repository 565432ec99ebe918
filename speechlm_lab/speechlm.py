"""The model a user calls: a codec and a language model over its codes."""

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from speechlm_lab import codec as codecs
from speechlm_lab.codec import Codec
from speechlm_lab.lm import LanguageModel

SHIPPED_LM = Path(__file__).parent / "checkpoints" / "lm"


class Continuation(NamedTuple):
    """A recording that a model went on with."""

    wave: Tensor  # float32 [T], the prompt as the codec renders it, then what follows
    codes: Tensor  # int64 [1, K, F], of all of it
    start: int  # the sample at which the model's own part begins


class SpeechLM:
    """A codec and a language model that speaks its codes."""

    def __init__(self, codec: Codec, lm: LanguageModel) -> None:
        if lm.config.codebook_size != codec.config.codebook_size:
            raise ValueError(
                f"the language model knows {lm.config.codebook_size} codes a level, "
                f"the codec has {codec.config.codebook_size}: they do not belong "
                "together"
            )
        self.codec = codec.eval()
        self.lm = lm.eval()

    @classmethod
    def from_shipped(cls) -> "SpeechLM":
        """The two models whose checkpoints come with the package.

        Raises FileNotFoundError, with the command that trains them, when they are not
        there.
        """
        codec = codecs.load_shipped()
        if not (SHIPPED_LM / "model.safetensors").exists():
            raise FileNotFoundError(
                "this package has no language model checkpoint: train one with "
                "`python -m speechlm_lab train lm`, then use SpeechLM.from_folders"
            )
        with contextlib.redirect_stdout(io.StringIO()):  # the mixin prints progress
            lm = LanguageModel.from_pretrained(SHIPPED_LM)
        return cls(codec, lm)

    @classmethod
    def from_folders(cls, codec: str | Path, lm: str | Path) -> "SpeechLM":
        """Load a codec and a language model from the folders of their trainings."""
        return cls(Codec.from_pretrained(codec), LanguageModel.from_pretrained(lm))

    @property
    def sample_rate(self) -> int:
        """Hz, of waves in and out."""
        return self.codec.sample_rate

    @torch.no_grad()
    def continue_(
        self,
        wave: Tensor,
        seconds: float = 3.0,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Continuation:
        """Go on with a recording: wave, codes, more codes, wave.

        `wave` is float32 `[T]` at `sample_rate`; its last part frame, if any, is left
        out, because it would be padded with silence. `seconds` is how much to add.
        The same `seed` gives the same continuation. Raises ValueError for a wave that
        is not `[T]` or shorter than one frame.
        """
        if wave.ndim != 1 or len(wave) < self.codec.hop:
            raise ValueError(
                f"wave must be [T] with at least {self.codec.hop} samples (one "
                f"frame), got {list(wave.shape)}"
            )
        if seconds < 0:
            raise ValueError(f"seconds must be at least 0, got {seconds}")
        start = len(wave) - len(wave) % self.codec.hop
        prompt = self.codec.encode(wave[None, :start])[:, : self.lm.config.codebooks]
        codes = self.lm.generate(
            prompt,
            round(seconds * self.codec.frame_rate),
            temperature,
            top_k,
            top_p,
            torch.Generator().manual_seed(seed),
        )
        return Continuation(self.codec.decode(codes)[0], codes, start)
