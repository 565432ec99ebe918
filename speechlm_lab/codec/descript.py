"""Descript's own package, `descript-audio-codec`: its models and its `.dac` files."""

import inspect
import pickle
import warnings
import zipfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab.audio import AudioError, check_rate, check_wave
from speechlm_lab.codec.adapters import Adapter, CodecUnavailable

if TYPE_CHECKING:
    from dac import DACFile


def import_dac() -> ModuleType:
    """The module `dac`, imported without its side effects.

    It needs `ensure_torchaudio`, which importing `codec.adapters` called, and one of
    its modules turns all of the program's UserWarnings off, which is undone here.
    """
    with warnings.catch_warnings():
        import dac
        import dac.utils
    return dac


class DescriptAdapter(Adapter):
    """A `dac.DAC` (Kumar et al. 2023, arXiv 2306.06546).

    Args:
        model: as from `load_descript`, or of your own sizes.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(
            model,
            model.sample_rate,
            model.hop_length,
            model.n_codebooks,
            model.codebook_size,
        )

    def _encode(self, wave: Tensor) -> Tensor:
        return self.model.encode(wave)[1]

    def _decode(self, codes: Tensor) -> Tensor:
        latents = self.model.quantizer.from_codes(codes)[0]
        return self.model.decode(latents)[:, 0]

    def save_file(
        self,
        wave: Tensor,
        path: str | Path,
        sample_rate: int,
        levels: int | None = None,
    ) -> Path:
        """Write a wave as a `.dac` file, by the package's own `compress`.

        It levels the wave to -16 LUFS, codes it in stretches of a second and keeps
        length, loudness and rate, so the codes differ from those of `encode`. Where
        torchaudio's extension is missing, levelling takes about as long as the sound
        lasts.

        Args:
            wave: [T], not silent.
            path: ends in `.dac`.
            sample_rate: of the wave in Hz, any; the package resamples.
            levels: codebooks to keep, all when None.

        Returns:
            The path.

        Raises:
            AudioError: no wave. ValueError: another ending, or no such levels.
        """
        check_wave(wave, sample_rate)
        levels = self._check_levels(levels, self.codebooks)
        if Path(path).suffix != ".dac":
            raise ValueError(f"the name must end in .dac, got {Path(path).name}")
        import_dac()
        from audiotools import AudioSignal

        signal = AudioSignal(wave.detach().cpu()[None, None], sample_rate)
        return self.model.compress(signal, n_quantizers=levels).save(path)

    @torch.no_grad()
    def load_file(self, path: str | Path) -> tuple[Tensor, int]:
        """Wave [T] and its rate in Hz of a `.dac` file that this model wrote.

        The first channel, if there are several. It does what the package's own
        `decompress` does, which fails where odd strides leave the wave some samples
        short; here zeros stand in for them.

        Raises:
            AudioError: no `.dac` file, damaged, or of another model.
        """
        file = read_dac(path)
        try:
            self._check_codes(file.codes)
        except ValueError as error:
            raise AudioError(f"{Path(path).name}: {error}") from error
        from audiotools import AudioSignal

        padding, self.model.padding = self.model.padding, file.padding
        try:
            pieces = file.codes[:1].split(file.chunk_length, dim=2)
            wave = torch.cat([self._decode(codes) for codes in pieces], dim=1)
        finally:
            self.model.padding = padding
        signal = AudioSignal(wave[:, None], self.sample_rate)
        signal = signal.normalize(file.input_db[:1]).resample(file.sample_rate)
        wave = signal.audio_data[0, 0, : file.original_length]
        wave = nnf.pad(wave, (0, file.original_length - len(wave)))
        return wave.clamp(-1, 1), file.sample_rate


def load_descript(source: str | Path, allow_pickle: bool = False) -> DescriptAdapter:
    """Load a model of Descript's package.

    Args:
        source: a `.pth` file of weights, or "16khz", "24khz" or "44khz" for the
            official ones of 8 kbit/s, which the package downloads to its own cache.
        allow_pickle: read the file without restrictions. A `.pth` file is a pickle,
            which can run any code on loading; by default only tensors and plain
            values are read. Allow it for files whose makers you trust.

    Raises:
        CodecUnavailable: no such file, or no network.
        ValueError: no weights of this package, or a pickle that holds more than tensors
            and plain values.
    """
    dac = import_dac()
    path = Path(source)
    if str(source) in ("16khz", "24khz", "44khz"):
        path = _download(str(source))
    if not path.is_file():
        raise CodecUnavailable(
            f"there is no file {source}: give a .pth file, or 16khz, 24khz or 44khz"
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name} is no .pth file, or a damaged one")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=not allow_pickle)
        options, state = saved["metadata"]["kwargs"], saved["state_dict"]
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} holds more than tensors and plain values, and could run code "
            "on loading: if you trust its makers, pass allow_pickle=True"
        ) from error
    except (RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} holds no weights of descript-audio-codec: it must be a file "
            "that model.save(path, package=False) wrote, whole"
        ) from error
    known = inspect.signature(dac.DAC).parameters
    model = dac.DAC(**{name: options[name] for name in options if name in known})
    model.load_state_dict(state)
    return DescriptAdapter(model)


def _download(name: str) -> Path:
    import requests

    dac = import_dac()
    try:
        return dac.utils.download(model_type=name)
    except (requests.RequestException, ValueError) as error:
        raise CodecUnavailable(
            f"cannot download the {name} weights of descript-audio-codec: fetch them "
            "once where there is a network, and give the path of the .pth file"
        ) from error


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled numpy arrays and plain values, and refuses anything else."""

    _ALLOWED = {
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    } | {("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def read_dac(path: str | Path) -> "DACFile":
    """Read a `.dac` file; returns the package's `DACFile`, with codes `[B, K, F]`.

    A `.dac` file is a pickle within a numpy file. The package's own reader would run
    whatever such a file holds; this one takes arrays and plain values only.

    Raises:
        FileNotFoundError: no such file.
        AudioError: no `.dac` file, damaged, of another version, or with more in it than
            arrays and plain values.
    """
    dac = import_dac()
    with open(path, "rb") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"numpy format {version}")
            np.lib.format.read_array_header_1_0(stream)
            saved = _ArraysOnly(stream).load()[()]
            codes = torch.from_numpy(saved["codes"].astype(np.int64))
            metadata = dict(saved["metadata"])
            if metadata["dac_version"] != "1.0.0":
                raise ValueError(f"version {metadata['dac_version']}")
            check_rate(metadata["sample_rate"])
            return dac.DACFile(codes=codes, **metadata)
        except Exception as error:  # a damaged pickle can raise anything
            raise AudioError(
                f"{Path(path).name} is no .dac file of version 1.0.0, or damaged "
                f"({error}): encode the sound again"
            ) from error
