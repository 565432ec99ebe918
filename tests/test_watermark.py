"""Watermarks: found with the key, not without it; quality and robustness measured."""

import functools

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from speechlm_lab import audio, metrics, watermark
from speechlm_lab.audio import AudioError
from speechlm_lab.codec import load_shipped
from speechlm_lab.corpus.tiny_voices import speak

TEXT = "The old clock in the hall is never on time, and nobody knows why."


@functools.cache
def speech(seed=0):
    return speak(TEXT, f"held-out:{seed}", seed=seed).wave


@functools.cache
def marked(seed=0, strength=watermark.STRENGTH):
    return watermark.embed(speech(seed), "key", strength)


def noisy(wave, snr, seed=0):
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(seed))
    level = wave.square().mean().sqrt() * 10 ** (-snr / 20)
    return (wave + level * noise).clamp(-1, 1)


class TestPattern:
    def test_is_signs_that_belong_to_the_key(self):
        signs = watermark.pattern("key")
        assert signs.shape == (watermark.BANDS, watermark.PERIOD)
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        assert torch.equal(signs, watermark.pattern("key"))
        agree = (signs == watermark.pattern("kez")).float().mean()
        assert 0.45 < agree < 0.55

    def test_stays_what_it_is_in_every_version(self):
        signs = watermark.pattern("key")
        assert signs[0, :8].tolist() == [-1, -1, -1, 1, -1, 1, 1, 1]


class TestEmbed:
    def test_keeps_length_and_range_and_is_the_same_each_time(self):
        one = marked()
        assert one.shape == speech().shape and one.dtype == torch.float32
        assert one.abs().max() <= 1
        assert torch.equal(one, watermark.embed(speech(), "key"))

    def test_strength_zero_changes_nothing(self):
        assert torch.allclose(marked(strength=0.0), speech(), atol=1e-5)

    def test_quality_stays_high(self):
        assert metrics.stoi(marked(), speech()) > 0.99
        assert metrics.si_sdr(marked(), speech()) > 15  # dB

    def test_pesq_stays_high(self):
        pytest.importorskip("pesq")
        assert metrics.pesq(marked(), speech()) > 4.1

    def test_a_loud_wave_stays_in_range(self):
        loud = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
        assert watermark.embed(loud.clamp(-1, 1), "key", 6.0).abs().max() <= 1

    @pytest.mark.parametrize("strength", [-1, 7, float("nan")])
    def test_senseless_strength(self, strength):
        with pytest.raises(ValueError, match="dB"):
            watermark.embed(speech(), "key", strength)


class TestLevels:
    def test_no_cell_decides_alone(self):
        tone = 0.3 * torch.sin(torch.arange(16_000) / 3)
        assert watermark.levels(tone).abs().max() <= watermark.MOST

    def test_cells_far_below_the_loudest_count_nothing(self):
        noise = torch.randn(32_000, generator=torch.Generator().manual_seed(0))
        noise[:16_000] *= 0.1
        noise[16_000:] *= 1e-6  # 100 dB below
        found = watermark.levels(noise)
        assert found[:, :50].any(0).all() and not found[:, 70:].any()


class TestDetect:
    @pytest.mark.parametrize("seed", range(4))
    def test_finds_the_mark_and_nothing_without_it(self, seed):
        assert watermark.detect(marked(seed), "key").chance < 1e-6
        assert watermark.detect(marked(seed), "another key").chance > 1e-3
        assert watermark.detect(speech(seed), "key").chance > 1e-3

    def test_more_strength_and_more_speech_are_surer(self):
        weak = watermark.detect(marked(strength=0.5), "key").score
        strong = watermark.detect(marked(strength=1.0), "key").score
        assert weak < strong
        long = watermark.embed(torch.cat([speech(), speech()]), "key")
        assert watermark.detect(long, "key").score > strong

    def test_two_marks_do_not_disturb_each_other(self):
        both = watermark.embed(marked(), "other")
        assert watermark.detect(both, "key").chance < 1e-6
        assert watermark.detect(both, "other").chance < 1e-6

    @pytest.mark.parametrize("wave", ["speech", "noise", "tone"])
    def test_scores_of_wrong_keys_are_normal(self, wave):
        """At one fixed offset, over keys, whatever the wave."""
        wave = {
            "speech": speech(),
            "noise": 0.1 * torch.randn(40_000, generator=torch.manual_seed(0)),
            "tone": 0.1 * torch.sin(torch.arange(40_000) / 7),
        }[wave]
        found = watermark.levels(wave)
        scores = [
            float(watermark.offset_scores(found, watermark.pattern(f"{i}"))[2, 5])
            for i in range(300)
        ]
        assert abs(np.mean(scores)) < 4 / np.sqrt(300)
        assert 0.85 < np.std(scores) < 1.15
        assert kstest(scores, "norm").pvalue > 1e-3

    def test_the_chance_counts_every_offset(self):
        found = watermark.detect(marked(strength=0.3), "key")
        tries = watermark.LONG * watermark.PERIOD
        assert found.chance == pytest.approx(tries * norm.sf(found.score))

    def test_chance_is_not_understated(self):
        """Of many wrong keys, no larger share is below a chance than that chance."""
        wave = marked()
        chance = torch.tensor(
            [watermark.detect(wave, f"{i}").chance for i in range(500)]
        )
        for level in (0.3, 0.1, 0.03):
            share = float((chance <= level).float().mean())
            assert share <= level + 3 * (level / 500) ** 0.5
        assert (chance < 0.3).any(), "or nothing was asked"

    @pytest.mark.parametrize("frames, column", [(0, 0), (1, 3), (5, 31)])
    def test_offsets_are_those_of_the_pattern(self, frames, column):
        """Levels that are the signs themselves score best where they were put."""
        signs = watermark.pattern("key")
        put = signs.roll(-column, 1).repeat(1, 2).repeat_interleave(watermark.LONG, 1)
        found = torch.zeros(put.shape)
        found[:, frames :: watermark.LONG] = put[:, :: watermark.LONG]
        scores = watermark.offset_scores(found, signs)
        assert int(scores.argmax()) == frames * watermark.PERIOD + column


class TestRobustness:
    @pytest.mark.parametrize(
        "change",
        [
            lambda x: x * 0.1,
            lambda x: x[4_321:],
            lambda x: x[: len(x) // 2],
            lambda x: audio.resample(audio.resample(x, 16_000, 8_000), 8_000, 16_000),
            lambda x: torch.round(x * 127) / 127,
            lambda x: noisy(x, 30),
        ],
        ids=["softer", "cut", "half", "8 kHz", "8 bits", "noise at 30 dB"],
    )
    def test_survives(self, change):
        assert watermark.detect(change(marked(1)), "key").chance < 1e-3

    def test_noise_weakens_it(self):
        scores = [
            np.mean(
                [watermark.detect(noisy(marked(i), snr), "key").score for i in range(4)]
            )
            for snr in (40, 25, 10)
        ]
        assert scores[0] > scores[1] > scores[2]

    def test_a_change_of_speed_destroys_it(self):
        faster = audio.resample(marked(), 16_000, 15_000)
        assert watermark.detect(faster, "key").chance > 1e-3

    @torch.no_grad()
    def test_our_codec_destroys_it(self):
        codec = load_shipped()
        for seed in (0, 1):
            again = codec.decode(codec.encode(marked(seed)[None]))[0].clamp(-1, 1)
            assert watermark.detect(again, "key").chance > 1e-3


class TestAnnounce:
    def test_a_chime_then_silence_then_the_wave(self):
        out = watermark.announce(speech())
        assert torch.equal(out[-len(speech()) :], speech())
        lead = out[: -len(speech())]
        assert len(lead) == round(0.6 * 16_000)
        chime, pause = lead[:6_400], lead[6_400:]
        assert not pause.any()
        same = chime.square().mean().sqrt() / speech().square().mean().sqrt()
        assert float(same) == pytest.approx(1, rel=1e-3)
        assert chime.abs().max() < 1

    def test_a_spoken_notice(self):
        notice = speak("This voice is synthetic.", 3).wave
        out = watermark.announce(speech(), notice)
        assert torch.equal(out[: len(notice)], notice)

    def test_a_loud_wave_gives_no_clipped_chime(self):
        square = torch.sign(torch.sin(torch.arange(16_000) / 9.0)) * 0.99
        assert watermark.announce(square).abs().max() <= 1


@pytest.mark.parametrize("call", [watermark.embed, watermark.detect])
class TestBadInput:
    def test_no_wave(self, call):
        for wave in (torch.zeros(16_000), torch.ones(2, 16_000), torch.ones(400) / 2):
            with pytest.raises(AudioError):
                call(wave, "key")

    @pytest.mark.parametrize("key", ["", 7, None])
    def test_no_key(self, call, key):
        with pytest.raises(ValueError, match="key"):
            call(speech(), key)


def test_a_notice_that_is_no_wave():
    with pytest.raises(AudioError, match="notice"):
        watermark.announce(speech(), torch.zeros(10))
