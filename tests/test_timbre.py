"""The timbre of speech is moved to that of the voice, frame by frame."""

import pytest
import torch

from speechlm_lab.speaking import SpeakConfig
from speechlm_lab.timbre import Timbre

SPECTRUM = 6  # of 9 dimensions


def latents(frames, seed=0, mean=0.0):
    return mean + torch.randn(frames, 9, generator=torch.Generator().manual_seed(seed))


def moved(said, voice, share):
    timbre = Timbre(voice, SPECTRUM, share)
    return torch.stack([timbre(latent) for latent in said])


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_mean_of_a_long_speech_comes_nearer_by_the_share(share):
    voice, said = latents(100, 1, mean=3.0), latents(4_000)
    part = slice(1, SPECTRUM)
    missing = voice.mean(0) - said.mean(0)
    gained = moved(said, voice, share)[2_000:].mean(0) - said[2_000:].mean(0)
    assert torch.allclose(gained[part], share * missing[part], atol=0.1)


def test_loudness_pitch_and_what_is_said_stay_as_they_are():
    said = latents(20)
    after = moved(said, latents(30, 1, mean=3.0), 0.5)
    assert torch.equal(after[:, 0], said[:, 0])
    assert torch.equal(after[:, SPECTRUM:], said[:, SPECTRUM:])
    assert (after[:, 1:SPECTRUM] != said[:, 1:SPECTRUM]).all()


def test_a_share_of_0_moves_nothing():
    said = latents(20)
    assert torch.equal(moved(said, latents(30, 1), 0.0), said)


def test_the_first_frames_by_hand():
    voice, said = latents(7, 1, mean=3.0), latents(2)
    missing = voice.mean(0) - said
    # as if five frames before had missed nothing
    expected = torch.stack([0.5 * missing[0] / 6, 0.5 * missing.sum(0) / 7])
    gained = moved(said, voice, 0.5) - said
    part = slice(1, SPECTRUM)
    assert torch.allclose(gained[:, part], expected[:, part], atol=1e-5)


def test_later_frames_play_no_part():
    voice, one, two = latents(30, 1), latents(20), latents(20)
    two[12:] += 5.0
    before = moved(one, voice, 0.5), moved(two, voice, 0.5)
    assert torch.equal(before[0][:12], before[1][:12])
    assert not torch.allclose(before[0][12:], before[1][12:])


def test_what_is_given_is_not_changed():
    said, voice = latents(5), latents(7, 1)
    copies = said.clone(), voice.clone()
    moved(said, voice, 0.5)
    assert torch.equal(said, copies[0])
    assert torch.equal(voice, copies[1])


@pytest.mark.parametrize("timbre", [-0.1, 1.1])
def test_a_share_beyond_0_to_1_is_refused(timbre):
    with pytest.raises(ValueError, match="timbre must lie in 0..1"):
        SpeakConfig(timbre=timbre)
