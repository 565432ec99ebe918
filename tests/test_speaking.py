"""Speaking step by step: it keeps to the text, ends, and repeats under a seed."""

from dataclasses import replace

import pytest
import torch

from speechlm_lab import layout
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.memory import Memory, hear
from speechlm_lab.sampling import guide
from speechlm_lab.speaking import SpeakConfig, Speaking, babble, draw
from speechlm_lab.stepping import Codebooks

SMALL = LMConfig(
    codebooks=3, codebook_size=11, width=24, layers=2, heads=2, hidden=40,
    texts=layout.TEXTS, roles=layout.ROLES,
)  # fmt: skip
BOOKS = torch.randn(3, 11, 5, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([layout.begin(t) for t in layout.read("hi, you.")])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(SMALL).eval()


@pytest.fixture
def loud(model):
    """Away from the small start, so that it has something to say."""
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def run(model, seed=0, prompt=4, **settings):
    settings = {"drawn": 3, "sharpness": (1.0, 1.0), **settings}
    speaking = Speaking(
        model, torch.zeros(3, prompt, dtype=torch.long), TOKENS, BOOKS,
        SpeakConfig(**settings), torch.Generator().manual_seed(seed),
    )  # fmt: skip
    speaking.frames = list(speaking)
    return speaking, torch.stack([frame.codes for frame in speaking.frames], dim=1)


def test_it_says_each_token_once_and_in_order(model):
    speaking, codes = run(model, temperature=1.0)
    assert [*TOKENS.tolist(), layout.begin(layout.END)] == speaking.tokens
    assert speaking.ended and codes.shape == (3, speaking.first[-1])
    assert 0 <= codes.min() and codes.max() < 11
    assert all(b > a for a, b in zip(speaking.first, speaking.first[1:], strict=False))


def test_a_token_cannot_last_for_ever(model):
    speaking, codes = run(model, longest_token=2)
    assert codes.shape[1] <= 2 * len(TOKENS)
    model.text_head.weight.data[:] = 0  # holding and going on are as likely
    speaking, codes = run(model, longest=7)
    assert not speaking.ended and codes.shape == (3, 7)


def test_a_seed_fixes_what_is_said(model):
    assert torch.equal(run(model, 1)[1], run(model, 1)[1])
    assert not torch.equal(run(model, 1, temperature=1.0)[1][:, :9],
                           run(model, 2, temperature=1.0)[1][:, :9])  # fmt: skip


def test_pace_spreads_durations_around_the_median(loud):
    levels = [run(loud, s, pace=1.0, longest=2)[0]._ends_below for s in range(60)]
    assert 0 <= min(levels) < 0.2 and 0.8 < max(levels) <= 1


def test_its_probabilities_are_those_of_training(model):
    """What was drawn greedily is the argmax of the sequence laid out whole."""
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    speaking, codes = run(model, temperature=0.0, pace=0.0, guidance=1.0)
    steps = layout.lay_out(
        torch.zeros(3, 4, dtype=torch.long), TOKENS, torch.tensor(speaking.first[:-1]),
        codes, SMALL.blank,
    )  # fmt: skip
    steps = layout.stack([steps], SMALL.blank)
    logits = model(steps.codes, None, steps.text, steps.roles)[0]
    wanted = steps.next_codes[0]
    known = wanted != SMALL.blank
    assert torch.equal(logits.argmax(-1)[known], wanted[known])


def test_guidance_leads_elsewhere(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    plain = run(model, temperature=0.0, guidance=1.0)[1]
    assert not torch.equal(plain, run(model, temperature=0.0, guidance=0.0)[1])
    led = run(model, temperature=0.0, guidance=3.0)[1]
    assert led.shape != plain.shape or not torch.equal(led, plain)


def test_guidance_by_its_formula(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    prompt = torch.arange(12).view(3, 4) % SMALL.codebook_size
    memory = Memory(model, hear(model, prompt), TOKENS, True)
    for scale in (0.0, 1.0, 3.0):
        config = SpeakConfig(guidance=scale, sharpness=(1.0, 1.0))
        heard = Speaking(model, prompt, TOKENS, BOOKS, config).choose()[1]
        led = guide(*memory.code_logits(), scale)
        assert torch.allclose(heard, Codebooks(BOOKS).means(led), atol=1e-5)


def test_fewer_levels_are_the_first_ones_of_all(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    prompt = torch.arange(12).view(3, 4) % SMALL.codebook_size
    for config in (SpeakConfig(), SpeakConfig(guidance=1.0, voice_guidance=2.0)):
        speaking = Speaking(model, prompt, TOKENS, BOOKS, config)
        codes, vectors = speaking.choose()
        some, heard = speaking.choose(2)
        assert torch.equal(some, codes[:2])
        assert torch.allclose(heard, vectors[:2], atol=1e-6)


def test_the_first_level_has_one_sharpness_and_the_others_another(loud):
    prompt = torch.arange(12).view(3, 4) % SMALL.codebook_size
    config = SpeakConfig(guidance=1.0, sharpness=(1.0, 3.0))
    speaking = Speaking(loud, prompt, TOKENS, BOOKS, config)
    scores = speaking.memory.code_logits()[0].log_softmax(-1)
    sharp = torch.tensor([[1.0], [3.0], [3.0]])
    expected = Codebooks(BOOKS).means(sharp * scores)
    assert torch.allclose(speaking.choose()[1], expected, atol=1e-5)


def test_levels_may_have_temperatures_of_their_own(model):
    logits = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
    config, generator = SpeakConfig(temperature=(0.0, 9.0, 9.0)), torch.Generator()
    drawn = torch.stack([draw(logits, config, generator) for _ in range(50)])
    assert (drawn[:, 0] == logits[0].argmax()).all()
    assert all(len(drawn[:, k].unique()) > 5 for k in (1, 2))
    with pytest.raises(ValueError, match="temperatures"):
        run(model, temperature=(0.0, 0.5))


def test_left_free_it_strays(model):
    for seed in range(20):  # whatever it begins with
        run(model, seed, follow=False, longest=5)
    speaking, codes = run(model, follow=False, longest=60)
    assert speaking.tokens != [*TOKENS.tolist(), layout.begin(layout.END)]
    assert codes.shape[1] <= 60


@pytest.mark.parametrize("temperature", [1.0, (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("truncated", [{"top_k": 1}, {"top_p": 1e-6}])
def test_drawn_codes_are_truncated(temperature, truncated):
    logits = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
    config = SpeakConfig(temperature=temperature, **truncated)
    codes = draw(logits, config, torch.Generator())
    assert torch.equal(codes, logits.argmax(-1))


def test_left_free_it_draws_its_text_at_a_temperature_of_its_own(loud):
    settings = {"follow": False, "temperature": 0.0, "longest": 40}
    greedy, drawn = (
        [run(loud, s, text_temperature=t, **settings)[0].tokens for s in range(4)]
        for t in (0.0, 1.0)
    )
    assert greedy == greedy[:1] * 4 and drawn[1] != drawn[2]


@pytest.mark.parametrize("follow", [True, False])
def test_only_where_it_follows_the_text_it_is_told_what_comes_next(
    loud, follow, monkeypatch
):
    seen, advance = [], Memory.advance

    def noted(self, codes, text):
        seen.append(text)
        advance(self, codes, text)

    monkeypatch.setattr(Memory, "advance", noted)
    run(loud, follow=follow, longest=9)
    assert bool(torch.stack(seen)[:, 1].any()) == follow


@pytest.mark.parametrize("given", [0, 1, 5])
def test_babble_goes_on_with_what_it_heard(model, given):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    heard = torch.randint(0, 11, (3, given), generator=torch.Generator().manual_seed(0))
    out = babble(model, heard, 6, SpeakConfig(temperature=0.0))
    assert out.shape == (3, given + 6)
    assert torch.equal(out[:, :given], heard)
    # each new code is the likeliest in the sequence of training without a text
    first = torch.zeros(1, dtype=torch.long)
    steps = layout.lay_out(
        heard[:, :0], TOKENS[:1], first, out, SMALL.blank, babbles=True
    )
    steps = layout.stack([steps], SMALL.blank)
    best = model(steps.codes, None, steps.text, steps.roles)[0].argmax(-1)
    for k in range(3):
        at = layout.LEAD + k + given
        assert torch.equal(best[k, at : at + 6], out[k, given:])


def test_a_drawn_code_is_heard_as_its_own_vector(model):
    speaking, codes = run(model, temperature=1.0)
    for codes, latent in speaking.frames:
        assert torch.allclose(latent, BOOKS[torch.arange(3), codes].sum(0))


def test_the_others_are_heard_as_means(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    speaking, codes = run(model, drawn=0, guidance=1.0, pace=0.0)
    assert torch.equal(codes, run(model, 1, drawn=0, guidance=1.0, pace=0.0)[1])
    steps = layout.lay_out(
        torch.zeros(3, 4, dtype=torch.long), TOKENS, torch.tensor(speaking.first[:-1]),
        codes, SMALL.blank,
    )  # fmt: skip
    steps = layout.stack([steps], SMALL.blank)
    odds = model(steps.codes, None, steps.text, steps.roles)[0].softmax(-1)
    start = odds.shape[1] - codes.shape[1] - 2  # the step of the first level's first
    for f, frame in enumerate(speaking.frames):
        heard = sum(odds[k, start + f + k] @ BOOKS[k] for k in range(3))
        assert torch.allclose(heard, frame.latent, atol=1e-4)
    # so sharp that only the likeliest counts: it is as if that were drawn, greedily
    sharp, drawn = (
        run(model, drawn=0, sharpness=(1e9, 1e9)),
        run(model, temperature=0.0),
    )
    assert torch.equal(sharp[1], drawn[1])


@pytest.mark.parametrize("drawn", [1, 2])
def test_some_levels_may_be_drawn_and_the_others_heard_as_means(loud, drawn):
    greedy = {"temperature": 0.0, "sharpness": (1e9, 1e9), "longest": 20}
    some, codes = run(loud, drawn=drawn, **greedy)
    every, same = run(loud, drawn=3, **greedy)
    assert torch.equal(codes, same)
    for one, other in zip(some.frames, every.frames, strict=True):
        assert torch.allclose(one.latent, other.latent, atol=1e-5)


def test_the_second_row_is_the_sequence_without_a_text(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    speaking, codes = run(model, guidance=2.0)
    first = torch.tensor(speaking.first[:-1])
    heard = hear(model, torch.zeros(3, 4, dtype=torch.long))
    for row, with_text in enumerate([True, False]):
        steps = layout.stack([
            layout.lay_out(torch.zeros(3, 4, dtype=torch.long), TOKENS, first, codes,
                           SMALL.blank, with_text=with_text)
        ], SMALL.blank)  # fmt: skip
        logits = model(steps.codes, None, steps.text, steps.roles)[0, :, -1]
        # the last step that was laid out has been seen, too, and one more after it
        memory = Memory(model, heard, TOKENS, True)
        after = 4 + len(TOKENS) + 1
        for s in range(after, steps.codes.shape[2]):
            memory.advance(steps.codes[0, :, s], steps.text[0, :, s])
        assert torch.allclose(memory.code_logits()[row], logits, atol=1e-4)


@pytest.mark.parametrize("frames", [0, 4])
def test_a_voice_is_listened_to_once(model, frames):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    prompt = torch.arange(12).view(3, 4)[:, :frames] % SMALL.codebook_size
    heard = hear(model, prompt)
    for config in (SpeakConfig(), SpeakConfig(guidance=1.0, voice_guidance=2.0)):
        for _ in range(2):  # nothing that is read after it changes it
            new, kept = (
                torch.stack(
                    [f.latent for f in Speaking(model, p, TOKENS, BOOKS, config)]
                )
                for p in (prompt, heard)
            )
            assert torch.equal(new, kept)


@pytest.mark.parametrize("right", range(6))
def test_a_draft_is_taken_as_far_as_it_is_right(model, right):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    torch.manual_seed(0)
    heard = hear(model, torch.randint(0, SMALL.codebook_size, (3, 4)))
    texts = torch.randint(1, 5, (8, 5))
    codes = torch.full((8, 3), SMALL.blank)
    draft = texts[:5].clone()
    draft[right:] += 1
    codes[6:] = 1
    drafted, plain = (
        Memory(model, heard, TOKENS, guided=True, draft=d) for d in (draft, None)
    )
    for step, text in zip(codes, texts, strict=True):
        for memory in (drafted, plain):
            memory.advance(step, text)
        assert torch.allclose(drafted.hidden, plain.hidden, atol=1e-4)


def test_a_sound_in_the_draft_is_no_silence(model):
    draft = torch.ones(2, 5, dtype=torch.long)
    heard, sound = hear(model, torch.ones(3, 2, dtype=torch.long)), torch.ones(3).long()
    drafted, plain = (Memory(model, heard, TOKENS, draft=d) for d in (draft, None))
    for memory in (drafted, plain):
        memory.advance(sound, draft[0])
    assert torch.allclose(drafted.hidden, plain.hidden, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{}, {"guidance": 2.0, "voice_guidance": 2.0}, {"follow": False}, {"longest": 3}],
)
def test_it_speaks_the_same_without_a_draft(model, settings, monkeypatch):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    settings = {"longest": 30} | settings
    drafted = run(model, **settings)[0]
    monkeypatch.setattr(Speaking, "_draft", lambda self: None)
    plain = run(model, **settings)[0]
    assert drafted.tokens == plain.tokens and drafted.first == plain.first


def test_the_voice_can_be_followed_more_closely(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    prompt = torch.arange(12).view(3, 4) % SMALL.codebook_size
    plain = SpeakConfig(sharpness=(1.0, 1.0), guidance=1.0, pace=0.0)
    closer = replace(plain, voice_guidance=3.0)
    near = Speaking(model, prompt, TOKENS, BOOKS, closer)
    heard = near.memory.code_logits()[0]
    voiceless = Memory(model, hear(model, prompt[:, :0]), TOKENS).code_logits()[0]
    expected = Codebooks(BOOKS).means(guide(heard, voiceless, 3.0)[:1])
    assert torch.allclose(near.choose()[1][:1], expected, atol=1e-5)
    # with nobody to listen to there is nothing to follow
    alone = [
        torch.stack(
            [f.latent for f in Speaking(model, prompt[:, :0], TOKENS, BOOKS, c)]
        )
        for c in (plain, closer)
    ]
    assert torch.equal(*alone)


@pytest.mark.parametrize(
    "wrong",
    [
        {"voice_guidance": float("nan")}, {"guidance": float("inf")},
        {"pace": float("nan")}, {"pace": -0.1}, {"drawn": -1}, {"longest": 0},
        {"sharpness": (1.0, -1.0)}, {"sharpness": (0.0, 1.0)}, {"longest_token": 0},
        {"timbre": 1.5}, {"temperature": float("nan")},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        SpeakConfig(**wrong)
