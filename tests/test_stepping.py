"""One step at a time in NumPy: the numbers of the model as PyTorch computes them."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from speechlm_lab.depth import DepthTransformer
from speechlm_lab.lm import KVCache, LanguageModel, LMConfig
from speechlm_lab.stepping import Codebooks, Stepper, Trunk

SMALL = LMConfig(
    codebooks=3, codebook_size=11, width=24, layers=2, heads=6, hidden=40,
    texts=9, roles=2, text_places=16,
)  # fmt: skip
CODES_ALONE = {**vars(SMALL), "texts": 0, "roles": 0}


def loud(model):
    """Away from the small start, so that errors show."""
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model.eval()


def sequence(rows, steps, seed=0):
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 12, (rows, 3, steps), generator=g)
    return codes, torch.randint(0, 9, (rows, 5, steps), generator=g)


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 2, 9])  # few rows, and many
@pytest.mark.parametrize("kv_heads", [0, 2])
@pytest.mark.parametrize("given", [1, 5, 299])  # 299 and more outgrow the first room
def test_it_goes_on_with_the_numbers_of_the_model(rows, kv_heads, given):
    torch.manual_seed(0)
    config = LMConfig(**{**vars(SMALL), "kv_heads": kv_heads})
    model, total = loud(LanguageModel(config)), given + 270
    codes, text = sequence(rows, total)
    roles = torch.ones(1, total, dtype=torch.long)
    whole = model.hidden(model.embed(codes, text, roles))
    caches = [KVCache() for _ in model.layers]
    start = (codes[..., :given], text[..., :given], roles[:, :given])
    model.hidden(model.embed(*start), caches)
    stepper = Stepper(model, caches)
    for s in range(given, total):
        x = stepper(codes[..., s], text[..., s], 1)
        assert torch.allclose(x, whole[:, s], atol=1e-4), s
    assert all(len(cache) == given for cache in caches), "left as they were"
    logits = torch.stack([head(x) for head in model.heads], dim=1)
    assert torch.allclose(stepper.logits(x), logits, atol=1e-4)
    assert torch.allclose(stepper.logits(x, [2]), logits[:, 2:], atol=1e-4)
    assert torch.allclose(stepper.text_logits(x), model.text_head(x), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("base", [10_000.0, 10.0])
def test_positions_can_be_given(base):
    model = loud(LanguageModel(LMConfig(**{**CODES_ALONE, "rope_base": base})))
    codes, _ = sequence(2, 8)
    positions = torch.tensor([0, 1, 2, 3, 700, 1, 2, 3])
    whole = model(codes, positions=positions)
    caches = [KVCache() for _ in model.layers]
    model(codes[..., :2], caches, positions=positions[:2])
    stepper = Stepper(model, caches)
    for s in range(2, 8):
        x = stepper(codes[..., s], position=int(positions[s]))
        assert torch.allclose(stepper.logits(x), whole[:, :, s], atol=1e-4), s


@torch.no_grad()
def test_scores_too_large_for_an_exponential_are_no_trouble():
    torch.manual_seed(0)
    model = loud(LanguageModel(LMConfig(**CODES_ALONE)))
    for layer in model.layers:
        layer.attention.qkv.weight.mul_(20)
    codes, _ = sequence(2, 6)
    stepper = Stepper(model, [KVCache() for _ in model.layers])
    for s in range(6):
        x = stepper(codes[..., s])
    assert torch.allclose(stepper.logits(x), model(codes)[:, :, 5], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("base", [10_000.0, 10.0])
def test_a_trunk_begins_from_nothing(base):
    torch.manual_seed(0)
    sizes = {"codebooks": 4, "width": 24, "heads": 2, "hidden": 40, "rope_base": base}
    model = loud(DepthTransformer(LMConfig(**sizes)))
    x = torch.randn(3, 5, 24)
    trunk = Trunk(model.layers, model.norm, model.config, room=2)
    each = [torch.from_numpy(trunk(x[:, s].numpy())) for s in range(5)]
    assert torch.allclose(torch.stack(each, dim=1), model._trunk(x), atol=1e-4)


def test_numpy_has_one_thread_for_a_step_and_its_own_number_after_it():
    model, during = LanguageModel(SMALL), []
    trunk = Trunk(model.layers, model.norm, SMALL)

    def threads():
        libraries = threadpool_info()
        return [lib["num_threads"] for lib in libraries if lib["user_api"] == "blas"]

    def layer(x, turn, at):
        during.extend(threads())
        raise ValueError("a step that fails")

    trunk.layers = [layer]
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with pytest.raises(ValueError, match="a step that fails"):
            trunk(np.zeros((1, 24), dtype=np.float32))
        assert threads() == before
    assert set(during) == {1}


@torch.no_grad()
def test_it_sees_the_weights_as_they_are_now():
    model = loud(LanguageModel(SMALL))
    codes, text = sequence(1, 1)
    stepper = Stepper(model, [KVCache() for _ in model.layers])
    model.norm.weight.mul_(2)
    roles = torch.ones(1, 1, dtype=torch.long)
    expected = model.hidden(model.embed(codes, text, roles))[:, 0]
    assert torch.allclose(stepper(codes[..., 0], text[..., 0], 1), expected, atol=1e-4)


def test_weights_of_half_precision_are_read_too():
    model = loud(LanguageModel(SMALL))
    codes, text = sequence(1, 1)
    x = Stepper(model.half(), [KVCache() for _ in model.layers])(
        codes[..., 0], text[..., 0], 1
    )
    expected = Stepper(model.float(), [KVCache() for _ in model.layers])(
        codes[..., 0], text[..., 0], 1
    )
    assert x.dtype == torch.float32 and torch.equal(x, expected)


def test_the_mean_errs_least():
    torch.manual_seed(0)
    books, logits = torch.randn(2, 7, 3), 2 * torch.randn(2, 7)
    means, chance = Codebooks(books).means(logits), logits.softmax(-1)
    assert torch.allclose(means[1], (chance[1, :, None] * books[1]).sum(0))

    def error(vectors):
        return (chance * (books - vectors[:, None]).square().sum(-1)).sum(-1)

    for _ in range(20):
        assert (error(means + 0.1 * torch.randn(2, 3)) > error(means)).all()
    # and of the codes the one nearest to it
    best = torch.stack([error(books[:, v]) for v in range(7)]).argmin(0)
    assert torch.equal(Codebooks(books).nearest(means), best)
    # of some levels the same
    some = Codebooks(books)
    assert torch.allclose(some.means(logits[1:], first=1), means[1:])
    assert torch.equal(some.nearest(means[1:], first=1), best[1:])


def test_codebooks_agree_with_the_plain_formulas():
    torch.manual_seed(0)
    books, logits = torch.randn(8, 512, 80), 3 * torch.randn(8, 512)
    ours = Codebooks(books)
    means = torch.einsum("kv,kvd->kd", logits.softmax(-1), books)
    assert torch.allclose(ours.means(logits), means, atol=1e-5)
    away = torch.cdist(means[:, None], books)[:, 0]
    assert torch.equal(ours.nearest(means), away.argmin(-1))
