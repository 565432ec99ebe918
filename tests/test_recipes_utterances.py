"""Training speech for the language model: what is in a batch, and of whom."""

import numpy as np
import pytest
import torch

from speechlm_lab import layout
from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.recipes import utterances
from speechlm_lab.recipes.utterances import Choice, UtteranceConfig, sample_steps

CODEC = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, codebooks=3, codebook_size=16,
)  # fmt: skip
FEW = UtteranceConfig(count=30, speakers=4)


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return Codec(CODEC).eval()


@pytest.fixture(scope="module")
def data(codec, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "utterances.npz"
    return utterances.make_utterances(FEW, codec, 2, path, "key", workers=0)


def test_utterances_are_sorted_by_speaker_and_complete(data):
    assert len(data.speakers) == 30 == len(data.frames) - 1 == len(data.texts) - 1
    assert (np.diff(data.speakers) >= 0).all()
    assert data.codes.shape == (2, data.frames[-1])
    assert len(data.tokens) == len(data.first) == data.texts[-1]
    for u in range(30):
        first = data.first[data.texts[u] : data.texts[u + 1]]
        assert first[0] == 0 and (np.diff(first) > 0).all()
        assert first[-1] < data.frames[u + 1] - data.frames[u]
        opening = layout.name(int(data.tokens[data.texts[u]]))
        assert opening.startswith("<") and opening != layout.END


def test_they_are_kept_and_others_are_not_mistaken_for_them(codec, tmp_path):
    few = UtteranceConfig(count=4, speakers=2)
    path = tmp_path / "u.npz"
    one = utterances.make_utterances(few, codec, 2, path, "key", workers=0)
    written = path.stat().st_mtime_ns
    two = utterances.make_utterances(few, codec, 2, path, "key", workers=0)
    assert path.stat().st_mtime_ns == written
    assert (one.codes == two.codes).all()
    workers = utterances.make_utterances(few, codec, 2, path, "other", workers=2)
    assert path.stat().st_mtime_ns != written
    assert (workers.codes == one.codes).all() and (workers.first == one.first).all()


def test_encoded_together_the_codes_are_those_of_each_alone(codec):
    def items(codec):
        made = utterances._Items(FEW, CODEC.hop, codec, 2)
        return [said for i in range(12) if (said := made[i]) is not None]

    alone = {said.index: said.sound for said in items(codec)}
    # the second of each length goes with the first, the last ones by themselves
    rows = items(None) + [r._replace(index=r.index + 100) for r in items(None)]
    together = list(utterances._encode_alike(rows, codec, 2, size=2))
    assert len(together) == 2 * len(alone) > 12
    for said in together:
        assert said.sound.dtype == np.int16
        assert np.array_equal(said.sound, alone[said.index % 100])


def batch(data, seed=0, **shares):
    names = ("without_voice", "without_text", "babbles", "any_emotion")
    none = dict.fromkeys(names, 0.0)
    choice = Choice(prompt=(5, 20), **(none | shares))
    return sample_steps(data, 4, 16, choice, torch.Generator().manual_seed(seed))


def test_the_voice_is_the_speakers_and_not_the_utterance_itself(data):
    for seed in range(10):
        steps = batch(data, seed)
        for row in range(4):
            spoken = steps.next_codes[row][:, steps.roles[row] == layout.SPEAK]
            length = int((spoken[0] != 16).sum())
            codes = spoken[0, layout.LEAD : layout.LEAD + length].numpy()
            whole = [data.codes[0, slice(*data.frames[u : u + 2])] for u in range(30)]
            (u,) = [u for u in range(30) if np.array_equal(whole[u], codes)][:1]
            heard = steps.codes[row, 0][steps.roles[row] == layout.LISTEN]
            heard = heard[heard != 16].numpy()
            same = np.flatnonzero(data.speakers == data.speakers[u])
            others = np.concatenate(
                [whole[v] for v in same if v > u] + [whole[v] for v in same if v < u]
            )
            windows = np.lib.stride_tricks.sliding_window_view(others, len(heard))
            assert 0 < len(heard) <= 20 and (windows == heard).all(1).any()


def test_processes_divide_a_batch_of_like_length(data):
    def drawn(part):
        generator = torch.Generator().manual_seed(3)
        return sample_steps(data, 4, 16, Choice(), generator, part)

    def spoken(steps):
        """Level 1 of each row, as it is to be predicted."""
        return {tuple(row[0][row[0] != 16].tolist()) for row in steps.next_codes}

    whole, parts = drawn((0, 1)), [drawn((n, 2)) for n in range(2)]
    assert [len(p.roles) for p in parts] == [2, 2]
    assert spoken(parts[0]) | spoken(parts[1]) == spoken(whole)


def test_a_seed_fixes_the_batch(data):
    assert torch.equal(batch(data, 1).codes, batch(data, 1).codes)
    one, two = batch(data, 1), batch(data, 2)
    assert one.codes.shape != two.codes.shape or not torch.equal(one.codes, two.codes)


def test_voice_text_and_emotion_can_be_left_out(data):
    steps = batch(data, without_voice=1.0)
    assert (steps.codes[steps.roles[:, None].expand_as(steps.codes) == 0] == 16).all()
    steps = batch(data, without_text=1.0)
    assert (steps.roles == layout.READ).any(1).all()
    assert not steps.text.any() and not steps.next_text.any()
    steps = batch(data, babbles=1.0)
    assert (steps.roles != layout.READ).all()
    assert not steps.text.any() and not steps.next_text.any()
    steps = batch(data, any_emotion=1.0)
    opening = [int(row[row > 0][0]) for row in steps.text[:, 0]]
    assert opening == [layout.begin("<any>")] * 4
    told = batch(data)
    assert all(row[row > 0][0] != opening[0] for row in told.text[:, 0])
