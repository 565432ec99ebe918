"""Each pattern of the language model: its order, its loss, its generation."""

import pytest
import torch
from torch.nn import functional as nnf

from speechlm_lab.lm import ORDERS, LanguageModel, LMConfig, places, spread
from speechlm_lab.patterns import PATTERNS
from speechlm_lab.transformer import KVCache

K, V = 3, 11
SIZES = {
    "codebooks": K, "codebook_size": V, "width": 24, "layers": 2, "heads": 2,
    "hidden": 40, "depth_width": 20,
}  # fmt: skip


def model_of(pattern):
    torch.manual_seed(0)
    model = LanguageModel(LMConfig(pattern=pattern, **SIZES)).eval()
    for p in model.parameters():  # away from the small start, so that errors show
        torch.nn.init.normal_(p, std=0.3)
    return model


@pytest.fixture(params=ORDERS)
def model(request):
    return model_of(request.param)


def codes(batch=2, frames=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, V, (batch, K, frames), generator=generator)


# the step at which level k of frame f is written, of F frames
STEPS = {
    "parallel": lambda k, f, F: f,
    "delay": lambda k, f, F: f + k,
    "flatten": lambda k, f, F: f * K + k,
    "coarse-to-fine": lambda k, f, F: k * F + f,
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("frames", [0, 1, 5])
def test_places_and_spread(pattern, frames):
    at = places(pattern, K, frames)
    expected = [[STEPS[pattern](k, f, frames) for f in range(frames)] for k in range(K)]
    assert at.tolist() == expected
    steps = spread(codes(frames=frames), at, V)
    assert (steps != V).sum() == 2 * K * frames
    for k in range(K):
        for f in range(frames):
            assert torch.equal(steps[:, k, at[k, f]], codes(frames=frames)[:, k, f])


def test_spread_is_the_layout_where_there_is_a_stream_a_level():
    for name in ("parallel", "delay"):
        laid = PATTERNS[name].lay(codes(), V)
        assert torch.equal(spread(codes(), places(name, K, 6), V), laid)


def before(pattern, frames):
    """The order of the codes as numbers: those of a smaller one are known."""
    f, k = torch.arange(frames), torch.arange(K)[:, None]
    if pattern == "depth":
        return f * K + k
    return STEPS[pattern](k, f, frames) + 0 * (f + k)


def test_a_code_depends_on_all_earlier_ones_and_on_no_other(model):
    frames, order = 4, before(model.config.pattern, 4)
    for k in range(K):
        for f in range(frames):
            changed = codes(frames=frames)
            changed[:, k, f] = (changed[:, k, f] + 1) % V
            gap = model.nats(changed) - model.nats(codes(frames=frames))
            later = order > order[k, f]
            gap[:, k, f] = 0  # its own price changes, of course
            assert (gap[:, ~later].abs() < 1e-5).all(), (k, f)
            assert (gap.abs().amax(0)[later] > 1e-5).all(), (k, f)


def price(scores, code):
    return -scores.log_softmax(-1).gather(-1, code[:, None])[:, 0]


def by_hand(model, codes):
    """Nats `[B, K, F]`, code after code, each from a pass over what is before it."""
    pattern, (batch, _, frames) = model.config.pattern, codes.shape
    order = before(pattern, frames)
    found = torch.zeros(codes.shape)
    for number in sorted(set(order.flatten().tolist())):
        for k, f in (order == number).nonzero().tolist():
            if pattern == "depth":
                rows = [torch.full((batch, K), V)]
                rows += [codes[:, :, g] for g in range(f)]
                h = model.hidden(model.embed(torch.stack(rows, 2)))[:, -1:]
                guess = torch.zeros(batch, K, 1, dtype=torch.long)
                guess[:, :k, 0] = codes[:, :k, f]
                found[:, k, f] = price(model.depth(h, guess)[:, k, 0], codes[:, k, f])
                continue
            rows = [torch.full((batch, K), V) for _ in range(number + 1)]
            for j in range(K):
                for g in range(frames):
                    if order[j, g] < number:  # seen one step after it is written
                        rows[order[j, g] + 1][:, j] = codes[:, j, g]
            where = None
            if pattern == "coarse-to-fine":  # the frame that each step writes
                where = torch.tensor([s % frames for s in range(number + 1)])
            x = model.hidden(model.embed(torch.stack(rows, 2)), positions=where)
            found[:, k, f] = price(model.heads[k](x[:, -1]), codes[:, k, f])
    return found


@torch.no_grad()
def test_the_loss_by_hand(model):
    expected = by_hand(model, codes(frames=3))
    assert torch.allclose(model.nats(codes(frames=3)), expected, atol=1e-4)
    mean = expected.mean((0, 2))
    assert torch.allclose(model.loss(codes(frames=3)), mean, atol=1e-4)


def test_blanks_in_a_batch_count_for_nothing(model):
    whole = codes(batch=1, frames=4)
    if model.config.pattern in ("coarse-to-fine",):
        pytest.skip("the end of a row is not the end of its order")
    padded = nnf.pad(whole, (0, 3), value=V)
    assert torch.allclose(model.loss(padded), model.loss(whole), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("given", [0, 1, 3])
def test_greedy_generation_equals_generation_without_a_cache(model, given):
    out = model.generate(codes()[:, :, :given], 3, temperature=0)
    assert out.shape == (2, K, given + 3)
    assert torch.equal(out[:, :, :given], codes()[:, :, :given])
    # each drawn code is the likeliest by a full pass, all else as drawn
    for k in range(K):
        for f in range(given, given + 3):
            prices = []
            for v in range(V):
                other = out.clone()
                other[:, k, f] = v
                prices.append(model.nats(other)[:, k, f])
            assert torch.equal(torch.stack(prices).argmin(0), out[:, k, f]), (k, f)


def test_a_seed_fixes_what_is_generated(model):
    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(codes(), 8, generator=generator)

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    assert 0 <= run(0).min() and run(0).max() < V, "no blank is ever drawn"


def test_no_frame_more_gives_a_copy(model):
    prompt = codes()
    same = model.generate(prompt, 0)
    assert torch.equal(same, prompt) and same.data_ptr() != prompt.data_ptr()


def test_truncated_to_one_code_drawing_is_greedy(model):
    best = model.generate(codes(), 5, temperature=0)
    assert torch.equal(model.generate(codes(), 5, top_k=1), best)
    assert torch.equal(model.generate(codes(), 5, top_p=1e-6), best)


@torch.no_grad()
def test_drawing_follows_the_prices(model):
    """Frequencies of one whole frame against the product of its codes' chances."""
    small = dict(SIZES) | {"codebooks": 2, "codebook_size": 3}
    torch.manual_seed(0)
    model = LanguageModel(LMConfig(pattern=model.config.pattern, **small)).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    start = torch.zeros(8000, 2, 0, dtype=torch.long)
    drawn = model.generate(start, 1, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(drawn[:, 0, 0] * 3 + drawn[:, 1, 0], minlength=9) / 8000
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))[:, :, None]
    assert torch.allclose(share, model.nats(pairs).sum((1, 2)).neg().exp(), atol=0.02)


def test_masking_blanks_inputs_only(model):
    torch.manual_seed(0)
    all_masked = model.nats(codes(), mask=1.0)
    assert all_masked.isfinite().all()
    assert not torch.allclose(all_masked, model.nats(codes()), atol=1e-3)


def test_masking_blanks_whole_steps_in_each_row_by_itself(monkeypatch):
    model, seen = model_of("parallel"), []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda x: seen.append(x) or embed(x))
    torch.manual_seed(0)
    model.nats(codes(batch=200), mask=0.3)
    blank = seen[0][..., 1:] == V
    assert torch.equal(blank.any(1), blank.all(1)), "all levels of a step"
    assert not torch.equal(blank[0], blank[1])
    assert blank.float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_the_weights_are_those_that_the_pattern_needs(model):
    model.loss(codes(batch=16, frames=9)).sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_equal_weights_but_for_the_depth_transformer():
    def count(pattern):
        return sum(p.numel() for p in model_of(pattern).parameters())

    assert len({count(pattern) for pattern in PATTERNS}) == 1
    assert count("depth") != count("delay")


def test_it_saves_and_loads(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = LanguageModel.from_pretrained(tmp_path).eval()
    assert loaded.config == model.config
    assert torch.equal(loaded.nats(codes()), model.nats(codes()))


def test_the_way_of_the_cache_is_open_to_all(model):
    """`forward` with positions and caches gives what `nats` prices."""
    if model.config.pattern == "depth":
        with pytest.raises(ValueError, match="nats or generate"):
            model(codes())
        return
    at = places(model.config.pattern, K, 6)
    steps = nnf.pad(spread(codes(), at, V)[..., :-1], (1, 0), value=V)
    where = None
    if model.config.pattern == "coarse-to-fine":
        where = torch.arange(6).repeat(K)
    caches = [KVCache() for _ in model.layers]
    cut = [steps[..., :4], steps[..., 4:]]
    places_cut = [None, None] if where is None else [where[:4], where[4:]]
    logits = torch.cat(
        [model(s, caches, positions=w) for s, w in zip(cut, places_cut, strict=True)], 2
    )
    for k in range(K):
        found = nnf.cross_entropy(
            logits[:, k, at[k]].transpose(1, 2), codes()[:, k], reduction="none"
        )
        assert torch.allclose(found, model.nats(codes())[:, k], atol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no pattern 'zigzag': choose from parallel"):
        LanguageModel(LMConfig(pattern="zigzag"))
    with pytest.raises(ValueError, match="with the pattern delay, not flatten"):
        LanguageModel(LMConfig(pattern="flatten", texts=5))
    with pytest.raises(ValueError, match="at least 0"):
        model_of("depth").generate(codes(), -1)
