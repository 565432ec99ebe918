"""Codebooks fitted for even use: what is evened out, and what is left alone."""

import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from speechlm_lab.metrics import codebook_use
from speechlm_lab.quantize import (
    ResidualVQ,
    VQConfig,
    balance,
    balance_levels,
    follow,
    kmeans,
    nearest,
)

V = 16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def skewed(count=8_000, width=3, seed=0):
    """Points of heavy tails: most are crowded together, the others far and wide."""
    return torch.randn(count, width, generator=seeded(seed)) ** 3


def perplexity(points, codebook):
    codes = nearest(points, codebook)[None, None]
    return codebook_use(codes, len(codebook)).perplexity.item()


def test_use_becomes_more_even_the_larger_gamma_is():
    points = skewed()
    begin = kmeans(points, V, generator=seeded())
    plain, some, much = (
        balance(points, begin, gamma, batch=128, generator=seeded())[0]
        for gamma in (0, 1, 2)
    )
    fresh = skewed(seed=5)
    assert perplexity(fresh, plain) < 0.5 * V
    assert perplexity(fresh, some) > 1.3 * perplexity(fresh, plain)
    assert perplexity(fresh, much) > 1.1 * perplexity(fresh, some)
    assert perplexity(fresh, much) > 0.7 * V


def test_without_gamma_it_is_kmeans_in_batches():
    points = torch.randn(4_000, 3, generator=seeded())
    begin = points[:V].clone()
    ours, _ = balance(points, begin, 0.0, passes=8, batch=64, generator=seeded())
    theirs = MiniBatchKMeans(V, init=begin.numpy(), n_init=1, batch_size=256)
    theirs = torch.from_numpy(theirs.fit(points.numpy()).cluster_centers_)
    error, reference = (
        torch.cdist(points, c).min(1).values.square().mean() for c in (ours, theirs)
    )
    assert error < 1.05 * reference


def test_one_step_without_gamma_is_a_step_of_running_means():
    points = torch.randn(64, 3, generator=seeded())
    begin = points[:V].clone()
    codes = nearest(points, begin)
    use = codes.bincount(minlength=V).float()
    expected, new = follow(begin, use, points, codes, 0.98)
    ours, count = balance(points, begin, 0.0, passes=1, batch=64, generator=seeded())
    assert torch.allclose(ours, expected, atol=1e-5)
    assert torch.allclose(count, new, atol=1e-5)


def test_what_is_not_counted_moves_codes_and_is_not_balanced():
    points = skewed()
    others = 10 + skewed(seed=3)
    counted = torch.arange(16_000) < 8_000
    both = torch.cat([points, others])
    begin = kmeans(both, 2 * V, generator=seeded())
    fitted, use = balance(both, begin, 2.0, counted, generator=seeded())
    every, _ = balance(both, begin, 2.0, generator=seeded())
    assert perplexity(points, fitted) > perplexity(points, begin)
    assert perplexity(others, fitted) < perplexity(others, every)
    assert use.sum().item() == pytest.approx(512, rel=1e-3)


def test_what_is_not_counted_chooses_the_nearest_code():
    points = skewed(256)
    begin, counted = points[:V].clone(), torch.arange(256) < 128
    codes = nearest(points, begin)
    share = codes[counted].bincount(minlength=V) / 128 * V
    distance = torch.cdist(points, begin).square().clamp(min=1e-6)
    busy = (distance * share.clamp(min=1e-3) ** 2).argmin(1)
    assert (busy != codes)[~counted].any(), "or it would make no difference"
    chosen = torch.where(counted, busy, codes)
    use = codes.bincount(minlength=V).float()
    expected, _ = follow(begin, use, points, chosen, 0.98)
    ours, _ = balance(points, begin, 2.0, counted, passes=1, batch=256)
    assert torch.allclose(ours, expected, atol=1e-4)


def test_in_the_end_means_settle():
    points = torch.randn(64, 3, generator=seeded())
    book = begin = points[:V].clone()
    use = nearest(points, begin).bincount(minlength=V).float()
    for decay in (0.98, 0.98, 0.98, 0.995, 0.995):
        book, use = follow(book, use, points, nearest(points, book), decay)
    ours, _ = balance(points, begin, 0.0, passes=5, batch=64, generator=seeded())
    assert torch.allclose(ours, book, atol=1e-5)


def test_each_pass_takes_the_points_in_another_order(monkeypatch):
    orders, draw = [], torch.randperm

    def noted(*size, **options):
        orders.append(draw(*size, **options))
        return orders[-1]

    monkeypatch.setattr(torch, "randperm", noted)
    balance(skewed(640), skewed(V), passes=3, batch=64, generator=seeded())
    assert len(orders) == 3 and not torch.equal(orders[0], orders[1])


def test_dimensions_of_weight_0_are_not_listened_to():
    points = torch.randn(4_000, 5, generator=seeded())
    weights = torch.tensor([1.0, 0.0, 1.0, 0.5, 0.0])
    begin = points[:V].clone()
    other, silent = points.clone(), weights == 0
    other[:, silent] = 100 * torch.rand(4_000, 2, generator=seeded(1))
    one, two = (
        balance(x, begin, 1.0, weights=weights, generator=seeded())[0]
        for x in (points, other)
    )
    assert torch.equal(one[:, ~silent], two[:, ~silent])
    codes = nearest(other * weights, two * weights)
    means = torch.stack([other[codes == v].mean(0) for v in range(V)])
    assert torch.allclose(two[:, silent], means[:, silent], rtol=1e-4)


def test_a_seed_fixes_it_and_what_is_given_stays():
    points = skewed(2_000)
    begin = points[:V].clone()
    kept = points.clone(), begin.clone()
    one, two = (balance(points, begin, generator=seeded(3))[0] for _ in "ab")
    assert torch.equal(one, two)
    assert torch.equal(points, kept[0]) and torch.equal(begin, kept[1])
    assert not torch.equal(one, balance(points, begin, generator=seeded(4))[0])


@pytest.mark.parametrize(
    "config", [VQConfig(), VQConfig(update="gradient", code_width=2)], ids=str
)
def test_every_level_of_a_residual_quantizer(config):
    torch.manual_seed(0)
    quantizer = ResidualVQ(3, V, 3, config=config).eval()
    latents = skewed().reshape(8, -1, 3)
    quantizer.start(latents, seeded())
    before = quantizer.encode(latents)
    balance_levels(quantizer, latents, (2.0, 1.0), seed=1)
    after = quantizer.encode(latents)
    even, uneven = (codebook_use(c, V).perplexity for c in (after, before))
    assert (even > uneven).all()


def test_each_level_has_its_gamma_and_the_frames_that_count():
    torch.manual_seed(0)
    quantizer, gammas = ResidualVQ(3, V, 3).eval(), (2.0, 0.5)
    left = skewed(2_000).reshape(2, -1, 3)
    counted = torch.arange(2_000).reshape(2, -1) < 1_000
    quantizer.start(left, seeded())
    begin = [level.codebook.clone() for level in quantizer.levels]
    balance_levels(quantizer, left, gammas, counted)
    for k, level in enumerate(quantizer.levels):
        gamma = gammas[min(k, 1)]  # the last one holds for all further levels
        points, counts = left.flatten(0, 1), counted.flatten()
        book, _ = balance(points, begin[k], gamma, counts, generator=seeded(k))
        assert torch.equal(level.codebook, book)
        left = left - level.decode(level.encode(left))


def test_levels_listen_to_what_they_listened_to():
    weights = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    quantizer = ResidualVQ(2, V, 3, weights=weights).eval()
    latents = skewed().reshape(8, -1, 3)
    quantizer.start(latents, seeded())
    other = latents + torch.tensor([0.0, 0.0, 50.0])
    twin = ResidualVQ(2, V, 3, weights=weights).eval()
    twin.load_state_dict(quantizer.state_dict())
    balance_levels(quantizer, latents, [1.0])
    balance_levels(twin, other, [1.0])
    one, two = quantizer.levels[0], twin.levels[0]
    assert torch.equal(one.codebook[:, :2], two.codebook[:, :2])
    assert torch.equal(one.encode(latents), two.encode(other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": -1.0}, "gamma must be 0 or more"),
        ({"codebook": torch.zeros(4, 2)}, r"\[N, D\]"),
        ({"counted": torch.ones(9, dtype=torch.bool)}, "each of 8 points"),
        ({"counted": torch.ones(8)}, "bool"),
        ({"counted": torch.zeros(8, dtype=torch.bool)}, "no point is counted"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    given = {"points": torch.zeros(8, 3), "codebook": torch.zeros(4, 3)}
    with pytest.raises(ValueError, match=message):
        balance(**(given | changes))


def test_directions_and_missing_gammas_are_refused():
    latents = torch.zeros(1, 8, 3)
    with pytest.raises(ValueError, match="direction"):
        quantizer = ResidualVQ(1, 4, 3, config=VQConfig(by_direction=True))
        balance_levels(quantizer, latents, [1.0])
    with pytest.raises(ValueError, match="at least one"):
        balance_levels(ResidualVQ(1, 4, 3), latents, [])
