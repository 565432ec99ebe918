"""The first recording: the reader's own, a person's, or a TinyVoice's."""

import numpy as np
import pytest
import soundfile
import torch

from speechlm_lab import audio
from speechlm_lab.corpus import first_recording as module
from speechlm_lab.corpus.first_recording import first_recording


def test_your_own_file(tmp_path):
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "mine.wav", np.stack([tone, tone], 1), 44_100)
    item = first_recording(tmp_path / "mine.wav")
    assert item.sample_rate == 16_000 and item.wave.shape == (16_000,)
    assert audio.loudness(item.wave) == pytest.approx(-23, abs=0.1)
    assert item.speaker is None


def test_a_missing_file_is_an_error_in_words(tmp_path):
    with pytest.raises(audio.AudioError, match="no file"):
        first_recording(tmp_path / "none.wav")


def test_without_network_and_cache_a_tiny_voice_speaks(monkeypatch, capsys):
    def offline(split):
        raise module.DownloadError("offline")

    monkeypatch.setattr(module, "FSDD", offline)
    item = first_recording()
    assert capsys.readouterr().out.count("\n") == 1
    assert item.speaker == "held-out:3" and item.text.startswith("three one four")
    assert item.wave.abs().max() <= 1 and torch.isfinite(item.wave).all()


def test_digits_of_a_person_are_joined(monkeypatch, tmp_path):
    class Few:
        labels = [{"speaker": module.SPEAKER, "text": d} for d in module.DIGITS]

        def __init__(self, split):
            assert split == "test"

        def __getitem__(self, index):
            wave = 0.1 * torch.randn(8_000, generator=torch.Generator().manual_seed(1))
            return module.Item(wave, 16_000, "")

    monkeypatch.setattr(module, "FSDD", Few)
    item = first_recording()
    pauses = len(module.DIGITS) - 1
    expected = len(module.DIGITS) * 8_000 + pauses * int(module.PAUSE * 16_000)
    assert item.wave.shape == (expected,) and item.speaker == module.SPEAKER
