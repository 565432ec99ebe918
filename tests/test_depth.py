"""The depth Transformer: causal in the levels, and the same step by step."""

import pytest
import torch
from torch.nn import functional as nnf

from speechlm_lab.depth import DepthTransformer
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.sampling import Sampling

K, V, D = 4, 11, 20
SMALL = LMConfig(codebooks=K, codebook_size=V, width=24, layers=2, heads=2, hidden=40)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def depth_of(config=SMALL, backbone=D):
    torch.manual_seed(0)
    model = DepthTransformer(config, backbone).eval()
    for p in model.parameters():  # away from the small start, so that errors show
        torch.nn.init.normal_(p, std=0.3)
    return model


@pytest.fixture
def model():
    return depth_of()


def states(*shape, seed=0):
    return torch.randn(*shape, D, generator=seeded(seed))


def codes(batch=2, steps=5, seed=0):
    return torch.randint(0, V, (batch, K, steps), generator=seeded(seed))


def test_shapes(model):
    assert model(states(2, 5), codes()).shape == (2, K, 5, V)
    drawn = model.generate(states(3))
    assert drawn.shape == (3, K) and drawn.dtype == torch.int64
    assert 0 <= drawn.min() and drawn.max() < V


@pytest.mark.parametrize("level", range(K))
def test_a_level_depends_on_those_below_it_alone(model, level):
    before = model(states(2, 5), codes())
    changed = codes()
    changed[:, level] = (changed[:, level] + 1) % V
    after = model(states(2, 5), changed)
    assert torch.equal(after[:, : level + 1], before[:, : level + 1])
    for above in range(level + 1, K):
        moved = (after[:, above] - before[:, above]).abs().amax(-1)
        assert (moved > 1e-4).all(), above


def test_every_level_depends_on_the_hidden_state(model):
    before = model(states(2, 5), codes())
    after = model(states(2, 5, seed=1), codes())
    assert ((after - before).abs().amax(-1) > 1e-4).all()


def test_frames_do_not_see_each_other(model):
    hidden, others = states(2, 5), states(2, 5, seed=1)
    given, given_others = codes(), codes(seed=1)
    others[1, 3], given_others[1, :, 3] = hidden[1, 3], given[1, :, 3]
    one, two = model(hidden, given), model(others, given_others)
    assert torch.allclose(one[1, :, 3], two[1, :, 3], atol=1e-5)
    assert not torch.allclose(one[1, :, 2], two[1, :, 2], atol=1e-2)


@pytest.mark.parametrize("settings", [{}, {"kv_heads": 1}, {"layers": 1}])
def test_step_by_step_equals_teacher_forced_argmax(settings):
    model = depth_of(LMConfig(**(vars(SMALL) | settings)))
    hidden = states(16)
    drawn = model.generate(hidden, Sampling(temperature=0))
    logits = model(hidden[:, None], drawn[:, :, None])[:, :, 0]
    assert torch.equal(logits.argmax(-1), drawn)
    assert len(drawn.unique(dim=0)) > 8  # not one answer to all


def test_drawing_follows_the_product_of_the_levels():
    model = depth_of(LMConfig(**(vars(SMALL) | {"codebooks": 2, "codebook_size": 3})))
    hidden = states(1)
    drawn = model.generate(hidden.expand(20_000, D), generator=seeded())
    share = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9) / len(drawn)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # [9, 2]
    with torch.no_grad():
        logits = model(hidden.expand(9, 1, D), pairs[:, :, None])[:, :, 0]
    picked = logits.log_softmax(-1).gather(-1, pairs[:, :, None])[..., 0]
    assert torch.allclose(share, picked.sum(1).exp(), atol=0.015)


def test_a_seed_fixes_the_codes(model):
    one, two = (model.generate(states(8), generator=seeded(3)) for _ in "ab")
    assert torch.equal(one, two)
    assert not torch.equal(one, model.generate(states(8), generator=seeded(4)))


def test_the_penalty_looks_at_its_own_level(model):
    greedy = Sampling(temperature=0)
    first = model.generate(states(6), greedy)
    strong = Sampling(temperature=0, penalty=1e6)
    none = torch.zeros(6, K, 0, dtype=torch.int64)
    assert torch.equal(model.generate(states(6), strong, recent=none), first)
    recent = torch.full((6, K, 1), -1)
    recent[:, 2, 0] = first[:, 2]
    second = model.generate(states(6), strong, recent=recent)
    assert torch.equal(second[:, :2], first[:, :2])
    assert (second[:, 2] != first[:, 2]).all()


def test_gradients_reach_every_weight_and_the_backbone(model):
    hidden = states(2, 5).requires_grad_()
    logits = model(hidden, codes())
    for k in range(K):
        model.zero_grad()
        hidden.grad = None
        loss = nnf.cross_entropy(logits[:, k].transpose(1, 2), codes()[:, k])
        loss.backward(retain_graph=True)
        assert hidden.grad.abs().sum() > 0
        for j, embedding in enumerate(model.embeddings):
            reached = embedding.weight.grad is not None
            reached = reached and bool(embedding.weight.grad.abs().sum() > 0)
            assert reached == (j < k)
    model.zero_grad()
    nnf.cross_entropy(logits.permute(0, 3, 1, 2), codes()).backward()
    for name, p in model.named_parameters():
        assert p.grad.abs().sum() > 0, name


def test_it_learns_what_heads_side_by_side_cannot():
    """Level 1 repeats level 0, which is a coin: 1 bit a frame, not 2."""
    config = LMConfig(
        codebooks=2, codebook_size=2, width=16, layers=1, heads=2, hidden=32
    )
    torch.manual_seed(0)
    model = DepthTransformer(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    hidden = torch.zeros(1, 256, 16)  # the backbone knows nothing of the coin
    coin = torch.randint(0, 2, (1, 1, 256), generator=seeded()).expand(1, 2, 256)
    for _ in range(60):
        loss = nnf.cross_entropy(model(hidden, coin).permute(0, 3, 1, 2), coin)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    drawn = model.generate(hidden[0], generator=seeded())
    assert (drawn[:, 0] == drawn[:, 1]).float().mean() > 0.97
    assert 0.3 < drawn[:, 0].float().mean() < 0.7


def test_its_sizes_are_in_proportion_to_those_of_the_backbone():
    sizes = {"width": 192, "layers": 6, "heads": 3, "kv_heads": 1, "hidden": 512}
    small = LMConfig(**sizes, depth_layers=2, depth_width=128).of_depth
    expected = {"width": 128, "layers": 2, "heads": 2, "kv_heads": 0, "hidden": 341}
    assert {name: getattr(small, name) for name in sizes} == expected


def test_one_level_and_blanks():
    alone = depth_of(LMConfig(**(vars(SMALL) | {"codebooks": 1})))
    assert alone(states(2, 5), codes()[:, :1]).shape == (2, 1, 5, V)
    assert alone.generate(states(3)).shape == (3, 1)
    assert depth_of()(states(2, 5), torch.full((2, K, 5), V)).isfinite().all()


def test_it_sits_on_the_language_model():
    config = LMConfig(codebooks=K, codebook_size=V, width=D, layers=1, heads=2)
    torch.manual_seed(0)
    backbone, depth = LanguageModel(config), DepthTransformer(SMALL, D)
    hidden = backbone.hidden(backbone.embed(codes()))
    assert depth(hidden, codes(seed=1)).shape == (2, K, 5, V)
    assert DepthTransformer(config)(hidden, codes(seed=1)).shape == (2, K, 5, V)


def test_bad_shapes_are_refused(model):
    with pytest.raises(ValueError, match=r"\[B, S, 20\]"):
        model(states(2), codes())
    with pytest.raises(ValueError, match=r"\[B, 20\]"):
        model.generate(torch.zeros(2, 21))
    with pytest.raises(ValueError, match=r"codes must be \[2, 4, 6\]"):
        model(states(2, 6), codes())
    with pytest.raises(ValueError, match="needs recent codes"):
        model.generate(states(2), Sampling(penalty=1.2))
