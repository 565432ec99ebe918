"""The language model: causal, cached, and the same arithmetic as Llama's."""

from dataclasses import replace

import pytest
import torch

from speechlm_lab.lm import Attention, KVCache, LanguageModel, LMConfig, rotations

SMALL = LMConfig(codebooks=3, codebook_size=11, width=24, layers=2, heads=2, hidden=40)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = LanguageModel(SMALL).eval()
    for p in model.parameters():  # away from the small start, so that errors show
        torch.nn.init.normal_(p, std=0.3)
    return model


def codes(batch=2, frames=15, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 11, (batch, 3, frames), generator=generator)


@pytest.mark.parametrize("base", [10_000.0, 10.0])
def test_the_trunk_agrees_with_transformers_llama(model, base, monkeypatch):
    # its audio helpers, of no use here, would load torchaudio's compiled part
    monkeypatch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
    from transformers import LlamaConfig, LlamaModel

    weights, model = model.state_dict(), LanguageModel(replace(SMALL, rope_base=base))
    model.load_state_dict(weights)
    llama = LlamaModel(
        LlamaConfig(
            vocab_size=1, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=2, rope_theta=base, rms_norm_eps=1e-6,
        )
    ).eval()  # fmt: skip
    llama.norm.load_state_dict(model.norm.state_dict())
    for theirs, ours in zip(llama.layers, model.layers, strict=True):
        q, k, v = ours.attention.qkv.weight.data.chunk(3)
        theirs.self_attn.q_proj.weight.data = q
        theirs.self_attn.k_proj.weight.data = k
        theirs.self_attn.v_proj.weight.data = v
        theirs.self_attn.o_proj.weight.data = ours.attention.out.weight.data
        theirs.mlp.gate_proj.weight.data = ours.feed_forward.gate.weight.data
        theirs.mlp.up_proj.weight.data = ours.feed_forward.up.weight.data
        theirs.mlp.down_proj.weight.data = ours.feed_forward.down.weight.data
        theirs.input_layernorm.weight.data = ours.attention_norm.weight.data
        theirs.post_attention_layernorm.weight.data = ours.feed_forward_norm.weight.data
    with torch.no_grad():
        hidden = llama(inputs_embeds=model.embed(codes())).last_hidden_state
        expected = torch.stack([head(hidden) for head in model.heads], dim=1)
        assert torch.allclose(model(codes()), expected, atol=1e-4)


def test_no_step_sees_a_later_one(model):
    one, two = codes(), codes()
    two[:, :, 9:] = codes(seed=1)[:, :, 9:]
    assert torch.allclose(model(one)[:, :, :9], model(two)[:, :, :9], atol=1e-6)
    assert not torch.allclose(model(one)[:, :, 9:], model(two)[:, :, 9:], atol=1e-3)


def test_each_step_sees_every_earlier_one(model):
    before = model(codes())[:, :, -1]
    for s in range(15):
        changed = codes()
        changed[:, 1, s] = (changed[:, 1, s] + 1) % 11
        assert not torch.allclose(model(changed)[:, :, -1], before, atol=1e-5), s


@pytest.mark.parametrize("pieces", [[15], [1] * 15, [6, 1, 5, 3]])
def test_cached_steps_give_the_same_logits(model, pieces):
    caches = [KVCache() for _ in model.layers]
    cached = [model(part, caches) for part in codes().split(pieces, dim=2)]
    assert torch.allclose(torch.cat(cached, dim=2), model(codes()), atol=1e-5)


@pytest.mark.parametrize("heard", [0, 4])  # steps that the caches hold already
@pytest.mark.parametrize("last", [1, 3, 8])
def test_of_the_last_steps_alone_all_is_as_if_the_others_were_asked(model, heard, last):
    x, found = model.embed(codes(frames=heard + 8)), []
    for asked in (None, last):
        caches = [KVCache() for _ in model.layers]
        if heard:
            model.hidden(x[:, :heard], caches)
        found.append((model.hidden(x[:, heard:], caches, last=asked), caches))
    (whole, full), (few, kept) = found
    assert few.shape[1] == last
    assert torch.allclose(few, whole[:, -last:], atol=1e-5)
    for a, b in zip(full, kept, strict=True):
        assert torch.allclose(a.keys, b.keys, atol=1e-5)
        assert torch.allclose(a.values, b.values, atol=1e-5)


@pytest.mark.parametrize("given", [0, 1, 2, 3, 7])
def test_greedy_decoding_equals_decoding_without_a_cache(model, given):
    prompt = codes(frames=15)[:, :, :given]
    out = model.generate(prompt, frames=5, temperature=0)
    assert out.shape == (2, 3, given + 5)
    assert torch.equal(out[:, :, :given], prompt)

    # the plain way: every code from a full pass over all that is before it
    frames = given + 5
    steps = torch.full((2, 3, 1 + frames + 2), SMALL.blank)
    for s in range(frames + 2):
        logits = model(steps[:, :, : s + 1])[:, :, -1]
        for k in range(3):
            frame = s - k
            if 0 <= frame < given:
                steps[:, k, s + 1] = prompt[:, k, frame]
            elif given <= frame < frames:
                steps[:, k, s + 1] = logits[:, k].argmax(-1)
    expected = torch.stack([steps[:, k, 1 + k : 1 + k + frames] for k in range(3)], 1)
    assert torch.equal(out, expected)


def test_a_seed_fixes_what_is_generated(model):
    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(codes(), 8, generator=generator)

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    assert run(0).max() < 11, "no blank is ever drawn"


def test_grouped_queries_are_heads_that_share_their_keys():
    torch.manual_seed(0)
    one = Attention(LMConfig(width=24, heads=6, kv_heads=2))
    all_heads = Attention(LMConfig(width=24, heads=6))
    q, k, v = one.qkv.weight.data.split([24, 8, 8])
    k, v = (w.view(2, 4, 24).repeat_interleave(3, 0).reshape(24, 24) for w in (k, v))
    all_heads.qkv.weight.data = torch.cat([q, k, v])
    all_heads.out.weight.data = one.out.weight.data
    x, turn = torch.randn(2, 9, 24), rotations(0, 9, 4, 10_000.0)
    assert torch.allclose(one(x, turn), all_heads(x, turn), atol=1e-6)
    values = one.split(x, turn)[2].repeat_interleave(3, dim=1)
    looked = (one.weights(x, turn) @ values).transpose(1, 2).reshape(2, 9, 24)
    assert torch.allclose(one.out(looked), one(x, turn), atol=1e-6)


@torch.no_grad()
def test_the_attention_shown_is_that_of_the_layers(model):
    x, turn = model.embed(codes()), rotations(0, 15, 12, 10_000.0)
    for layer, weights in zip(model.layers, model.attention(x), strict=True):
        values = layer.attention.split(layer.attention_norm(x), turn)[2]
        looked = (weights @ values).transpose(1, 2).reshape(x.shape)
        expected = x + layer.attention.out(looked)
        expected += layer.feed_forward(layer.feed_forward_norm(expected))
        x = layer(x, turn)
        assert torch.allclose(x, expected, atol=1e-4)


def test_places_in_a_text_begin_as_turns():
    model = LanguageModel(LMConfig(texts=5, text_places=32))
    table = model.text_embeddings[3].weight.detach()
    alike = table @ table.T  # depends on how far two places are apart, on nothing else
    for apart in (1, 7):
        row = alike.diagonal(apart)
        assert torch.allclose(row, row[:1].expand_as(row), rtol=1e-3)


def test_it_learns_a_rule():
    # level k of frame f is f + k modulo 11: after a frame all is known
    torch.manual_seed(0)
    model = LanguageModel(SMALL)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    first = torch.randint(0, 11, (16, 1, 1))
    data = (first + torch.arange(20) + torch.arange(3)[:, None]) % 11
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(data, mask=0.1).sum().backward()
        optimizer.step()
    prompt = data[:1, :, :4]
    assert torch.equal(model.generate(prompt, 16, temperature=0), data[:1])


def test_the_loss_by_hand(model):
    blank = torch.full((2, 3, 1), SMALL.blank)
    data = codes(frames=1)
    inputs = torch.cat([blank, blank.clone(), blank.clone()], dim=2)
    inputs[:, 0, 1] = data[:, 0, 0]
    inputs[:, 1, 2] = data[:, 1, 0]
    scores = model(inputs).log_softmax(-1)
    expected = [
        -scores[:, k, k].gather(1, data[:, k]).mean() for k in range(3)
    ]  # level k of frame 0 stands at step k
    assert torch.allclose(model.loss(data), torch.stack(expected), atol=1e-5)


def test_it_saves_and_loads(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = LanguageModel.from_pretrained(tmp_path)
    assert loaded.config == SMALL
    assert torch.equal(loaded.eval()(codes()), model(codes()))


def test_bad_input_is_refused(model):
    with pytest.raises(ValueError, match=r"\[B, 3, S\]"):
        model(codes()[:, :2])
    with pytest.raises(ValueError, match="even width"):
        LMConfig(width=30, heads=4)
    with pytest.raises(ValueError, match="cannot share"):
        LMConfig(heads=3, kv_heads=2)
