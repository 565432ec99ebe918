"""The speaker encoder: what it takes, what it ignores, that it knows voices."""

import pytest
import torch

from speechlm_lab.audio import AudioError
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, speak
from speechlm_lab.recipes.speaker import (
    SpeakerRecipe,
    closest_rate,
    equal_error_rate,
    margin_loss,
    test_clips,
)
from speechlm_lab.shipped import CHECKPOINTS
from speechlm_lab.speaker import (
    AttentivePooling,
    SpeakerConfig,
    SpeakerEncoder,
    load_speaker_encoder,
    similarity,
)
from speechlm_lab.train import TrainConfig

SMALL = SpeakerConfig(width=32, layers=1, attention=8, dims=16)
SHIPPED = CHECKPOINTS / "speaker"
shipped = pytest.mark.skipif(not SHIPPED.exists(), reason="nothing is shipped yet")


@pytest.fixture(scope="module")
def wave():
    return speak("The brown dog barked at two loud boys.", "held-out:1").wave


# Embedding


def test_embeddings_have_length_one_and_ignore_loudness_and_company(wave):
    torch.manual_seed(0)
    model = SpeakerEncoder(SMALL).train()
    batch = torch.stack([wave, wave.flip(0), 0.01 * wave])
    found = model.embed(batch)
    assert model.training  # as it was
    assert found.shape == (3, 16)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
    assert torch.allclose(found[0], found[2], atol=1e-3)
    for row, clip in zip(found, batch, strict=True):
        alone = model.embed(clip)
        assert alone.shape == (16,) and torch.allclose(alone, row, atol=1e-4)


def test_pooling_is_a_mean_and_a_deviation_over_time():
    torch.manual_seed(0)
    pool, x = AttentivePooling(4, 8), torch.randn(2, 4, 9)
    twice = x.repeat(1, 1, 2)
    assert torch.allclose(pool(twice), pool(x), atol=1e-6), "how long counts nothing"
    mean, deviation = pool(x[:, :, :1].expand(2, 4, 9)).chunk(2, dim=1)
    assert torch.allclose(mean, x[:, :, 0], atol=1e-5)
    floor = torch.full((2, 4), 1e-4).sqrt()  # of what never changes
    assert torch.allclose(deviation, floor, atol=1e-3)


@pytest.mark.parametrize(
    ("wave", "told"),
    [
        (torch.zeros(SAMPLE_RATE), "silent"),
        (torch.rand(4000), "longer recording"),
        (torch.rand(1, 2, SAMPLE_RATE), "shape"),
        (torch.stack([torch.rand(SAMPLE_RATE), torch.zeros(SAMPLE_RATE)]), "silent"),
        (2 * torch.rand(SAMPLE_RATE), "beyond"),
    ],
)
def test_bad_waves_give_one_error(wave, told):
    with pytest.raises(AudioError, match=told):
        SpeakerEncoder(SMALL).embed(wave)


def test_similarity_is_the_cosine():
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([[4.0, 3.0], [-3.0, -4.0]])
    assert float(similarity(a, 2 * a)) == pytest.approx(1)
    assert similarity(a, b).tolist() == pytest.approx([0.96, -1.0])
    assert similarity(b[:, None], b[None]).shape == (2, 2)
    with pytest.raises(ValueError, match="do not go together"):
        similarity(a, torch.ones(3))


# The recipe


def test_a_margin_makes_the_task_harder_and_nothing_else():
    cosines = torch.tensor([[0.9, 0.1, -0.3], [0.0, 0.6, 0.5]])
    speakers = torch.tensor([0, 1])
    plain = torch.nn.functional.cross_entropy(20 * cosines, speakers)
    assert margin_loss(cosines, speakers, 0.0, 20) == pytest.approx(float(plain))
    shifted = cosines.clone()
    for row, column in ((0, 0), (1, 1)):
        shifted[row, column] = (cosines[row, column].acos() + 0.2).cos()
    wanted = torch.nn.functional.cross_entropy(20 * shifted, speakers)
    assert margin_loss(cosines, speakers, 0.2, 20) == pytest.approx(float(wanted))
    assert wanted > plain


def test_known_scores_give_known_rates():
    same, different = torch.tensor([0.9, 0.8, 0.7, 0.2]), torch.tensor([0.1, 0.3, 0.0])
    assert equal_error_rate(same + 1, different) == 0
    assert 0.2 < equal_error_rate(same, different) < 0.35
    assert equal_error_rate(different, same) > 0.5
    scores = torch.eye(6)
    assert closest_rate(scores, 3) == 1
    scores[0, 1] = 2.0  # nearer to a voice of its group
    scores[1, 5] = 2.0  # nearer to one of another group
    assert closest_rate(scores, 3) == pytest.approx(5 / 6)
    assert closest_rate(scores, 6) == pytest.approx(4 / 6)


def test_a_batch_has_each_voice_twice_and_depends_on_its_step_alone():
    recipe = SpeakerRecipe(SMALL, batch=3, speakers=5, clip=(0.6, 0.8))
    model = SpeakerEncoder(SMALL)
    features, speakers = recipe.sample_batch(model, 1)
    again, same = recipe.sample_batch(model, 1)
    assert (features == again).all() and (speakers == same).all()
    assert (speakers[:3] == speakers[3:]).all() and len(set(speakers.tolist())) == 3
    assert len(features) == 6 and features.isfinite().all()
    other, _ = recipe.sample_batch(model, 2)
    assert other.shape != features.shape or (other != features).any()


def test_a_training_leaves_an_encoder_in_half_precision_and_a_card(tmp_path):
    recipe = SpeakerRecipe(
        SMALL, TrainConfig(2, threads=1), batch=2, clip=(0.6, 0.8), speakers=4, test=2
    )
    recipe.run(tmp_path)
    again = SpeakerEncoder.from_pretrained(tmp_path).float()
    assert again.config == SMALL
    assert (tmp_path / "model.safetensors").stat().st_size < 50_000
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "equal error rate, held-out voices, neutral, through the codec" in card


# The shipped one


@shipped
def test_the_shipped_one_knows_voices_it_never_heard():
    model = load_speaker_encoder()
    assert model is load_speaker_encoder()
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 1_500_000
    first, again = (model.embed(test_clips(10, "neutral", seed)) for seed in (7, 8))
    scores = similarity(again[:, None], first[None])
    assert closest_rate(scores) >= 0.8
    own = torch.eye(10, dtype=torch.bool)
    assert equal_error_rate(scores[own], scores[~own]) < 0.2


@shipped
def test_noise_changes_an_embedding_less_than_another_voice_does(wave):
    model = load_speaker_encoder()
    other = speak("The brown dog barked at two loud boys.", "held-out:4").wave
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
    noisy = (wave + 0.1 * wave.std() * noise).clamp(-1, 1)
    found = model.embed(wave)
    near, far = (similarity(found, model.embed(x)) for x in (noisy, other))
    assert near > far
