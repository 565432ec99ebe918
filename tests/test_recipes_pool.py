"""Training audio: phones in the right place, recordings at one level."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechlm_lab.corpus.items import Span
from speechlm_lab.recipes import CodecRecipe
from speechlm_lab.recipes import pool as pools
from speechlm_lab.recipes.pool import (
    LABEL_HOP,
    PoolConfig,
    label_phones,
    make_pool,
    real_speech,
)
from speechlm_lab.recogniser import PHONES

SPEECH = PoolConfig(minutes=0.2, speakers=2, sounds=0, scenes=0)


def number(phone):
    return 1 + PHONES.index(phone)


def test_labels_lie_where_the_phones_do():
    spans = [Span("s", 0.02, 0.05), Span("ɑːɹ", 0.06, 0.10)]
    s, a, r = number("s"), number("ɑ"), number("ɹ")
    assert label_phones(spans, 12).tolist() == [0, 0, s, s, s, 0, a, a, r, r, 0, 0]


def test_a_pool_knows_what_is_said_where(tmp_path):
    pool = make_pool(SPEECH, tmp_path / "pool.npz", workers=0)
    assert len(pool.labels) * LABEL_HOP == len(pool.wave) == pool.starts[-1]
    assert len(np.unique(pool.labels)) > 20
    loudness = np.square(pool.wave.reshape(-1, LABEL_HOP) / 32768).mean(1) ** 0.5
    vowels = np.isin(pool.labels, [number(v) for v in ("i", "ɑ", "eɪ", "oʊ", "æ")])
    assert loudness[vowels].mean() > 5 * loudness[pool.labels == 0].mean()
    again = make_pool(SPEECH, tmp_path / "pool.npz", workers=0)
    for one, other in zip(pool, again, strict=True):
        assert np.array_equal(one, other)


def test_clips_get_the_labels_of_their_frames(tmp_path):
    pool = make_pool(SPEECH, tmp_path / "pool.npz", workers=0)
    at = torch.tensor([0, 16_000, 16_080])
    phones = pool.phones(at, frames=10, hop=320)
    assert phones.shape == (3, 10)
    # the middle of frame 3 from sample 16,000 is sample 17,120
    assert phones[1, 3] == pool.labels[17_120 // LABEL_HOP]
    assert phones[2, 3] == pool.labels[17_200 // LABEL_HOP]


def test_real_speech_is_level_and_there_at_several_speeds(monkeypatch):
    time = np.arange(16_000) / 16_000
    tones = [gain * np.sin(2 * np.pi * 500 * time) for gain in (0.001, 0.5)]
    items = [SimpleNamespace(wave=torch.tensor(t).float()) for t in tones]
    monkeypatch.setattr(pools, "Barista", lambda split: items)
    monkeypatch.setattr(pools, "FSDD", lambda split: items[:1])
    both, one = real_speech(speeds=(1.0, 0.9))
    gap = 800
    assert len(both) == pytest.approx(2 * (16_000 + gap) * (1 + 1 / 0.9), abs=4)
    first, second = both[:16_000] / 32768, both[16_000 + gap :][:16_000] / 32768
    for wave in (first, second):
        assert np.square(wave).mean() ** 0.5 == pytest.approx(0.1, rel=0.01)
    slow = one[16_000 + gap :][:16_000] / 32768
    spectrum = np.abs(np.fft.rfft(slow[1_000:11_000]))
    assert np.argmax(spectrum) * 1.6 == pytest.approx(450, abs=5)  # Hz


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_recording_has_its_share_on_any_number_of_processes(
    monkeypatch, tmp_path, share, processes
):
    pool = make_pool(SPEECH, tmp_path / "pool.npz", workers=0)
    recipe = CodecRecipe(clip=0.1, real=share, noise=-120.0, quietest=0.0)
    # constant sounds, which no clip of the pool is
    real = [np.full(8_000, level, np.int16) for level in (8_192, 16_384)]
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    seen = {0.25: 0, 0.5: 0}
    for step in range(8):
        for rank in range(processes):
            monkeypatch.setenv("RANK", str(rank))
            wave, phones = recipe.sample_batch(pool, real, step)
            assert len(wave) == recipe.batch // processes
            rows = wave[len(phones) :]
            assert torch.all((rows - rows[:, :1]).abs() < 1e-3)
            for level in rows.mean(1).tolist():
                seen[round(level, 2)] += 1
    clips = 8 * recipe.batch * share
    assert seen == {0.25: 0.75 * clips, 0.5: 0.25 * clips}
