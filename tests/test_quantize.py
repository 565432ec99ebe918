"""Vector quantization: nearest codes, learning, residual levels, grids, DAC's codes."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import vq as scipy_vq
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import cosine_similarity

from speechlm_lab.codec import load_shipped
from speechlm_lab.codec.torchaudio_check import ensure_torchaudio
from speechlm_lab.quantize import (
    FSQ,
    ResidualVQ,
    VectorQuantizer,
    VQConfig,
    count_and_sum,
    follow,
    from_dac,
    join_digits,
    kmeans,
    restart,
    round_to_grid,
    split_codes,
)

CONFIGS = [
    VQConfig(update=update, code_width=code_width, by_direction=by_direction)
    for update, code_width, by_direction in product(
        ("ema", "gradient"), (None, 3), (False, True)
    )
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=str)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def latents(batch=4, frames=50, width=6, seed=0):
    return torch.randn(batch, frames, width, generator=seeded(seed))


# One codebook


def test_points_are_counted_and_summed_as_by_a_matrix_of_ones():
    points = latents().flatten(0, 1)
    codes = torch.arange(len(points)) % 7  # the eighth and ninth are not used
    ones = torch.nn.functional.one_hot(codes, 9).float()
    count, total = count_and_sum(points, codes, 9)
    assert torch.equal(count, ones.sum(0)) and count.dtype == points.dtype
    assert torch.allclose(total, ones.T @ points, atol=1e-4)


def test_nearest_codes_agree_with_scipy():
    quantizer = VectorQuantizer(16, 6).eval()
    z = latents()
    expected, _ = scipy_vq(z.reshape(-1, 6).numpy(), quantizer.codebook.numpy())
    assert np.array_equal(quantizer.encode(z).flatten().numpy(), expected)


def test_kmeans_comes_near_sklearn():
    points = latents(1, 2000, 4)[0]
    centres = kmeans(points, 20, 30, seeded())
    inertia = torch.cdist(points, centres).min(1).values.square().sum().item()
    reference = KMeans(20, n_init=3, random_state=0).fit(points.numpy()).inertia_
    assert inertia < 1.05 * reference


def test_kmeans_is_reproducible_and_wants_enough_points():
    points = latents(1, 100, 4)[0]
    crowded = points.clone()
    crowded[10:] = 0  # so that most centres lose all their points, and are moved
    for x in (points, crowded):
        one, two = (kmeans(x, 8, 5, seeded(1)) for _ in "ab")
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match="pool more latents"):
        kmeans(points, 101)


def test_by_direction_is_cosine_similarity():
    quantizer = VectorQuantizer(16, 6, VQConfig(by_direction=True))
    z = latents()
    likeness = cosine_similarity(z.reshape(-1, 6), quantizer.codebook)
    assert np.array_equal(quantizer.encode(z).flatten(), likeness.argmax(1))
    assert torch.equal(quantizer.encode(z), quantizer.encode(7 * z))


@every_config
@pytest.mark.parametrize("training", [True, False])
def test_forward_encode_and_decode_agree(config, training):
    for quantizer in (VectorQuantizer(16, 6, config), ResidualVQ(4, 16, 6, 0, config)):
        quantizer.train(training)
        z = latents()
        codes = quantizer.encode(z)
        decoded = quantizer.decode(codes).detach()
        out = quantizer(z)  # in training it then learns, which the next call sees
        assert torch.equal(out.codes, codes)
        assert torch.equal(out.latents, decoded)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(CONFIGS),
    st.integers(1, 3),
    st.integers(2, 40),
    st.integers(1, 9),
    st.integers(1, 7),
    st.integers(0, 2**31),
)
def test_they_agree_at_any_size(config, K, V, D, F, seed):
    torch.manual_seed(seed)
    quantizer = ResidualVQ(K, V, D, config=config).eval()
    z = torch.randn(2, F, D) * 10 ** torch.empty(1).uniform_(-2, 2)
    out = quantizer(z)
    codes = quantizer.encode(z)
    assert codes.shape == (2, K, F) and out.latents.shape == (2, F, D)
    assert torch.equal(out.codes, codes)
    assert torch.equal(out.latents, quantizer.decode(codes))
    for k in range(1, K + 1):  # a prefix of levels is a prefix of codes
        assert torch.equal(quantizer.encode(z, k), codes[:, :k])
        assert torch.equal(quantizer.decode(codes, k), quantizer.decode(codes[:, :k]))


def test_more_levels_come_closer():
    quantizer = ResidualVQ(6, 32, 6)
    z = latents(8, 200)
    quantizer.start(z, seeded())
    codes = quantizer.encode(z)
    errors = [
        (z - quantizer.decode(codes, levels=k)).square().mean() for k in range(1, 7)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert torch.equal(quantizer.decode(codes[:, :3]), quantizer.decode(codes, 3))


@every_config
def test_start_uses_the_codes(config):
    torch.manual_seed(0)
    quantizer = ResidualVQ(3, 32, 6, config=config)
    z = latents(8, 200)
    quantizer.start(z, seeded())
    used = [len(level.unique()) for level in quantizer.encode(z).unbind(1)]
    # by direction two centres may share one, and the longer of them is never needed
    assert min(used) == 32 if not config.by_direction else min(used) >= 24


def test_a_seed_fixes_a_start():
    one, two = ResidualVQ(3, 16, 6), ResidualVQ(3, 16, 6)
    for quantizer in (one, two):
        quantizer.start(latents(), seeded())
    for a, b in zip(one.levels, two.levels, strict=True):
        assert torch.equal(a.codebook, b.codebook)


def test_a_start_forgets_how_much_codes_were_used():
    quantizer = VectorQuantizer(16, 6)
    quantizer(latents())
    assert not (quantizer.use == 1).all()
    quantizer.start(latents())
    assert (quantizer.use == 1).all()


def test_the_gradient_passes_straight_through():
    quantizer = ResidualVQ(3, 16, 6).eval()
    z = latents().requires_grad_()
    weight = latents(seed=1)
    (quantizer(z).latents * weight).sum().backward()
    assert torch.allclose(z.grad, weight)


def test_every_levels_commitment_reaches_the_encoder():
    # the gradient of the summed losses is that of sum_k ||r_k||^2 with r_k = z - const
    quantizer = ResidualVQ(3, 16, 6).eval()
    z = latents().requires_grad_()
    quantizer(z).commitment.backward()
    codes = quantizer.encode(z)
    residuals = [z - quantizer.decode(codes, levels=k) for k in (1, 2, 3)]
    expected = sum(2 * r / r.numel() for r in residuals) / 3
    assert torch.allclose(z.grad, expected.detach(), atol=1e-7)
    first_only = 2 * residuals[0] / residuals[0].numel() / 3
    assert not torch.allclose(z.grad, first_only.detach(), atol=1e-4)


@every_config
def test_every_level_reaches_the_encoder_and_the_projections(config):
    quantizer = ResidualVQ(3, 16, 6, config=config).eval()
    for k in range(3):
        z = latents().requires_grad_()
        quantizer.zero_grad()
        residual = z.detach()
        for level in quantizer.levels[:k]:
            residual = residual - level.decode(level.encode(residual)).detach()
        quantizer.levels[k].commitment(
            residual.detach().requires_grad_(), quantizer.encode(z)[:, k]
        ).backward()
        alone = {
            name: p.grad.clone()
            for name, p in quantizer.levels[k].named_parameters()
            if p.grad is not None
        }
        quantizer.zero_grad()
        quantizer(z).commitment.backward()
        assert z.grad.abs().sum() > 0
        for name, p in quantizer.levels[k].named_parameters():
            if name in alone:
                assert torch.allclose(p.grad, alone[name] / 3, atol=1e-7), name


def test_what_is_not_listened_to_costs_no_commitment():
    weights = torch.tensor([1.0, 0.0, 1.0, 0.5, 0.0, 1.0])
    quantizer, z = VectorQuantizer(16, 6, weights=weights).eval(), latents()
    out = quantizer(z)
    expected = ((z - out.latents) * weights).square().mean()
    assert out.commitment.item() == pytest.approx(expected.item())


def test_projections_learn_from_what_is_decoded():
    quantizer = ResidualVQ(2, 16, 6, 0, VQConfig(code_width=3))
    quantizer(latents()).latents.square().sum().backward()
    for name, p in quantizer.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_a_gradient_codebook_is_pulled_by_the_commitment_alone():
    quantizer = VectorQuantizer(16, 6, VQConfig("gradient"))
    z = latents()
    quantizer(z.requires_grad_()).latents.sum().backward()
    assert quantizer.codebook.grad is None
    out = quantizer(z)
    out.commitment.backward()
    chosen = torch.bincount(out.codes.flatten(), minlength=16) > 0
    moved = quantizer.codebook.grad.abs().sum(1) > 0
    assert torch.equal(moved, chosen), "codes that were not chosen get no gradient"


def test_a_gradient_codebook_is_not_moved_but_by_restarts():
    z = latents()
    quantizer = VectorQuantizer(16, 6, VQConfig("gradient", restart_below=0))
    before = quantizer.codebook.clone()
    quantizer(z)
    assert torch.equal(quantizer.codebook, before)
    assert not torch.equal(quantizer.use, torch.ones(16))


def test_codes_become_the_running_mean_of_what_chose_them():
    config = VQConfig(decay=0.9, restart_below=0)
    quantizer = VectorQuantizer(2, 1, config)
    quantizer.codebook.copy_(torch.tensor([[0.0], [10.0]]))
    quantizer.use.copy_(torch.tensor([1.0, 1.0]))
    quantizer(torch.tensor([[[1.0], [1.0], [12.0]]]))
    # use: .9 * 1 + .1 * 2 = 1.1 and .9 + .1 = 1.0
    assert torch.allclose(quantizer.use, torch.tensor([1.1, 1.0]))
    expected = torch.tensor([[(0.9 * 0 + 0.1 * 2) / 1.1], [0.9 * 10 + 0.1 * 12]])
    assert torch.allclose(quantizer.codebook, expected)


def test_without_memory_running_means_are_means():
    points = latents()[0]
    codebook = torch.randn(4, 6)
    codes = torch.arange(50) % 3  # nobody chooses the last code
    moved, use = follow(codebook, torch.ones(4), points, codes, decay=0.0)
    means = torch.stack([points[k::3].mean(0) for k in range(3)])
    assert torch.allclose(moved[:3], means, atol=1e-6)
    assert torch.equal(moved[3], codebook[3])
    assert use.tolist() == [17, 17, 16, 0]


def test_each_level_learns_from_what_is_left_to_it():
    config = VQConfig(decay=0.0, restart_below=0)
    quantizer, z = ResidualVQ(2, 16, 6, 0, config), latents()
    codes = quantizer.encode(z)
    left = z - quantizer.decode(codes, levels=1)
    quantizer(z)
    for v in codes[:, 1].unique():
        mean = left[codes[:, 1] == v].mean(0)
        assert torch.allclose(quantizer.levels[1].codebook[v], mean, atol=1e-5)


def test_restarts_touch_the_dead_only():
    codebook, points = torch.zeros(4, 6), latents()[0]
    use = torch.tensor([8.0, 0.1, 4.0, 0.0])  # a tenth of the mean is 0.3025
    new, use_after = restart(codebook, use, points, 0.1)
    assert torch.equal(new[[0, 2]], codebook[[0, 2]])
    assert all((row == points).all(1).any() for row in new[[1, 3]])
    assert torch.allclose(use_after, torch.tensor([8.0, 3.025, 4.0, 3.025]))
    same, _ = restart(codebook, use, points, 0)
    assert torch.equal(same, codebook)


@every_config
def test_dead_codes_are_restarted_at_data(config):
    torch.manual_seed(0)
    z = latents() + 3
    used = {}
    for below in (0.0, 0.1):
        options = {**vars(config), "restart_below": below, "decay": 0.9}
        quantizer = VectorQuantizer(16, 6, VQConfig(**options))
        with torch.no_grad():  # all codes far away, on one line
            quantizer.codebook.copy_(-100.0 - torch.arange(16.0).unsqueeze(1))
        for _ in range(60):
            quantizer(z)
        used[below] = len(quantizer.encode(z).unique())
    assert used[0.0] <= 2, "without restarts the collapse should stay"
    assert used[0.1] >= 14


def test_evaluation_changes_nothing():
    quantizer = ResidualVQ(2, 16, 6).eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(latents())
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())


def test_dropout_decodes_from_the_first_levels():
    torch.manual_seed(0)
    quantizer = ResidualVQ(4, 16, 6, dropout=1.0)
    z = latents(64, 3)
    codes = quantizer.encode(z)
    partial = torch.stack([quantizer.decode(codes, k) for k in (1, 2, 3, 4)])
    out = quantizer(z).latents
    matches = (partial - out).abs().amax(dim=(2, 3)) < 1e-5  # [4, 64]
    assert matches.any(0).all(), "each item equals some prefix of levels"
    assert matches.any(1).all(), "each prefix occurs among 64 items"


def test_dropout_is_the_share_of_items_whose_levels_are_drawn():
    torch.manual_seed(0)
    kept = ResidualVQ(4, 16, 6, dropout=0.2).kept_levels(10_000)
    fewer = (kept < 4).float().mean().item()  # one draw in four is of all levels
    assert fewer == pytest.approx(0.2 * 3 / 4, abs=0.015)


@pytest.mark.parametrize(
    ("codes", "levels", "message"),
    [
        (torch.zeros(1, 3, 2, dtype=torch.long), None, "1 <= k <= 2"),
        (torch.zeros(1, 2, 2, dtype=torch.long), 3, "levels must lie in 1..2"),
        (torch.full((1, 2, 2), 16), None, "0..15"),
        (torch.full((1, 2, 2), -1), None, "0..15"),
    ],
)
def test_bad_codes_are_refused(codes, levels, message):
    with pytest.raises(ValueError, match=message):
        ResidualVQ(2, 16, 6).decode(codes, levels)


def test_bad_latents_are_refused():
    with pytest.raises(ValueError, match=r"\[B, F, 6\]"):
        ResidualVQ(2, 16, 6).encode(torch.zeros(1, 6, 50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "adam"}, "update is one of"),
        ({"decay": 1.0}, "decay must lie"),
        ({"restart_below": -1}, "restart_below must lie"),
        ({"code_width": 0}, "code_width must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VQConfig(**options)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="size >= 2"):
        VectorQuantizer(1, 6)
    with pytest.raises(ValueError, match="codebooks must be"):
        ResidualVQ(0, 16, 6)
    with pytest.raises(ValueError, match="probability"):
        ResidualVQ(2, 16, 6, dropout=2)
    with pytest.raises(ValueError, match=r"1\.\.2"):
        ResidualVQ(2, 16, 6).encode(latents(), levels=3)


def test_the_shipped_codec_loads_and_its_codes_are_its_latents():
    codec = load_shipped()
    names = dict(codec.quantizer.named_buffers())
    assert {"levels.0.codebook", "levels.0.use"} <= set(names)
    assert not list(codec.quantizer.parameters())
    z = latents(1, 40, codec.config.latent)
    out = codec.quantizer(z)
    assert torch.equal(out.codes, codec.quantizer.encode(z))
    assert torch.equal(out.latents, codec.quantizer.decode(out.codes))


# FSQ

GRIDS = st.lists(st.integers(2, 9), min_size=1, max_size=5)


@given(GRIDS, st.data())
def test_codes_and_digits_are_inverse(levels, data):
    size = int(np.prod(levels))
    codes = torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=1)))
    digits = split_codes(codes, levels)
    expected = np.stack(np.unravel_index(codes.numpy(), levels), -1)
    assert np.array_equal(digits, expected)
    assert torch.equal(join_digits(digits, levels), codes)


@settings(max_examples=50, deadline=None)
@given(GRIDS, st.none() | st.integers(1, 8), st.integers(0, 2**31))
def test_fsq_forward_encode_and_decode_agree(levels, width, seed):
    torch.manual_seed(seed)
    quantizer = FSQ(levels, width)
    z = 2 * torch.randn(2, 5, quantizer.width)
    out = quantizer(z)
    assert torch.equal(out.codes, quantizer.encode(z))
    assert torch.equal(out.latents, quantizer.decode(out.codes))
    assert out.codes.shape == (2, 5) and out.commitment == 0
    if width is None:  # what is on the grid stays there
        assert torch.equal(quantizer.encode(out.latents.atanh()), out.codes)


def test_fsq_takes_the_nearest_point_of_its_grid():
    levels = (5, 4, 3)
    quantizer = FSQ(levels)
    z = latents(1, 200, 3)
    axes = [np.linspace(-1, 1, count) for count in levels]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    expected, _ = scipy_vq(z[0].tanh().double().numpy(), grid)
    assert np.array_equal(quantizer.encode(z)[0].numpy(), expected)
    assert np.allclose(quantizer.decode(quantizer.encode(z))[0], grid[expected])
    assert quantizer.size == 60


def test_fsq_passes_the_gradient_of_tanh():
    z = latents(1, 20, 3).requires_grad_()
    weight = latents(1, 20, 3, seed=1)
    (FSQ((8, 5, 5))(z).latents * weight).sum().backward()
    expected = weight * (1 - z.detach().tanh() ** 2)
    assert torch.allclose(z.grad, expected, atol=1e-6)


def test_values_beyond_the_grid_go_to_its_ends():
    digits = round_to_grid(torch.tensor([[-9.0, 9.0]]), (4, 5))
    assert digits.tolist() == [[0, 4]]


def test_fsq_refuses_what_is_not_on_its_grid():
    with pytest.raises(ValueError, match="2 levels or more"):
        FSQ((8, 1))
    for code in (15, -1):
        with pytest.raises(ValueError, match=r"0\.\.14"):
            FSQ((5, 3)).decode(torch.tensor([[code]]))
    with pytest.raises(ValueError, match=r"\[B, F, 2\]"):
        FSQ((5, 3)).encode(torch.zeros(1, 2, 7))


# DAC


@pytest.fixture(scope="module")
def dac_quantizer():
    ensure_torchaudio()
    from speechlm_lab.codec.descript import import_dac

    torch.manual_seed(0)
    import_dac()
    from dac.nn.quantize import ResidualVectorQuantize

    return ResidualVectorQuantize(64, 9, 1024, 8).eval()


@torch.no_grad()
def test_dacs_codes_decode_to_dacs_latents(dac_quantizer):
    ours = from_dac(dac_quantizer.state_dict())
    z = latents(2, 60, 64)
    theirs, codes, *_ = dac_quantizer(z.mT)
    from_codes = dac_quantizer.from_codes(codes)[0]
    scale = from_codes.abs().max()
    assert torch.allclose(ours.decode(codes).mT, from_codes, atol=1e-6 * scale)
    for k in (1, 4):
        some = dac_quantizer.from_codes(codes[:, :k])[0]
        assert torch.allclose(ours.decode(codes, k).mT, some, atol=1e-6 * scale)
    assert torch.equal(ours.encode(z), codes)
    assert torch.allclose(ours(z).latents.mT, theirs, atol=1e-6 * scale)


def test_another_models_state_is_refused():
    with pytest.raises(ValueError, match="ResidualVectorQuantize"):
        from_dac({"encoder.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="ResidualVectorQuantize"):
        from_dac(ResidualVQ(2, 16, 6).state_dict())
