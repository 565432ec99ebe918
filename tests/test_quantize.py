"""Vector quantization: nearest codes, moving averages, residual levels."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.cluster.vq import vq as scipy_vq
from sklearn.cluster import KMeans

from speechlm_lab.quantize import ResidualVQ, VectorQuantizer, kmeans


def latents(batch=4, frames=50, width=6, seed=0):
    return torch.randn(
        batch, frames, width, generator=torch.Generator().manual_seed(seed)
    )


def test_nearest_codes_agree_with_scipy():
    quantizer = VectorQuantizer(16, 6).eval()
    z = latents()
    expected, _ = scipy_vq(z.reshape(-1, 6).numpy(), quantizer.codebook.numpy())
    assert np.array_equal(quantizer.encode(z).flatten().numpy(), expected)


def test_kmeans_comes_near_sklearn():
    points = latents(1, 2000, 4)[0]
    centres = kmeans(points, 20, 30, torch.Generator().manual_seed(0))
    inertia = torch.cdist(points, centres).min(1).values.square().sum().item()
    reference = KMeans(20, n_init=3, random_state=0).fit(points.numpy()).inertia_
    assert inertia < 1.05 * reference


def test_kmeans_is_reproducible_and_wants_enough_points():
    points = latents(1, 100, 4)[0]
    one, two = (kmeans(points, 8, 5, torch.Generator().manual_seed(1)) for _ in "ab")
    assert torch.equal(one, two)
    with pytest.raises(ValueError, match="pool more latents"):
        kmeans(points, 101)


def test_forward_encode_and_decode_agree():
    quantizer = ResidualVQ(4, 16, 6).eval()
    z = latents()
    out = quantizer(z)
    assert torch.equal(out.codes, quantizer.encode(z))
    assert torch.equal(out.latents, quantizer.decode(out.codes))
    assert out.codes.shape == (4, 4, 50)


def test_more_levels_come_closer():
    quantizer = ResidualVQ(6, 32, 6)
    z = latents(8, 200)
    quantizer.start(z, torch.Generator().manual_seed(0))
    codes = quantizer.encode(z)
    errors = [
        (z - quantizer.decode(codes, levels=k)).square().mean() for k in range(1, 7)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert torch.equal(quantizer.decode(codes[:, :3]), quantizer.decode(codes, 3))


def test_start_uses_every_code():
    quantizer = ResidualVQ(3, 32, 6)
    z = latents(8, 200)
    quantizer.start(z, torch.Generator().manual_seed(0))
    for level in quantizer.encode(z).unbind(1):
        assert len(level.unique()) == 32


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


def test_codes_become_the_running_mean_of_what_chose_them():
    quantizer = VectorQuantizer(2, 1, decay=0.9, restart_below=0.0)
    quantizer.codebook.copy_(torch.tensor([[0.0], [10.0]]))
    quantizer.use.copy_(torch.tensor([1.0, 1.0]))
    quantizer(torch.tensor([[[1.0], [1.0], [12.0]]]))
    # use: .9 * 1 + .1 * 2 = 1.1 and .9 + .1 = 1.0
    assert torch.allclose(quantizer.use, torch.tensor([1.1, 1.0]))
    expected = torch.tensor([[(0.9 * 0 + 0.1 * 2) / 1.1], [0.9 * 10 + 0.1 * 12]])
    assert torch.allclose(quantizer.codebook, expected)


def test_dead_codes_are_restarted_at_data():
    torch.manual_seed(0)
    z = latents()
    far = torch.full((16, 6), 100.0) + torch.arange(16.0).unsqueeze(1)
    far[0] = 0.0
    used = {}
    for restart in (0.0, 0.1):
        quantizer = VectorQuantizer(16, 6, decay=0.9, restart_below=restart)
        quantizer.codebook.copy_(far)
        for _ in range(60):
            quantizer(z)
        used[restart] = len(quantizer.encode(z).unique())
    assert used[0.0] == 1, "without restarts the collapse should stay"
    assert used[0.1] == 16


def test_evaluation_changes_nothing():
    quantizer = ResidualVQ(2, 16, 6).eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(latents())
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())


def test_dropout_decodes_from_the_first_levels():
    torch.manual_seed(0)
    quantizer = ResidualVQ(4, 16, 6, dropout=1.0, decay=0.98)
    z = latents(64, 3)
    codes = quantizer.encode(z)
    partial = torch.stack([quantizer.decode(codes, k) for k in (1, 2, 3, 4)])
    out = quantizer(z).latents
    matches = (partial - out).abs().amax(dim=(2, 3)) < 1e-5  # [4, 64]
    assert matches.any(0).all(), "each item equals some prefix of levels"
    assert matches.any(1).all(), "each prefix occurs among 64 items"


@pytest.mark.parametrize(
    ("codes", "levels", "message"),
    [
        (torch.zeros(1, 3, 2, dtype=torch.long), None, "1 <= k <= 2"),
        (torch.zeros(1, 2, 2, dtype=torch.long), 3, "levels must lie in 1..2"),
        (torch.full((1, 2, 2), 16), None, "0..15"),
    ],
)
def test_bad_codes_are_refused(codes, levels, message):
    with pytest.raises(ValueError, match=message):
        ResidualVQ(2, 16, 6).decode(codes, levels)


def test_bad_latents_are_refused():
    with pytest.raises(ValueError, match=r"\[B, F, 6\]"):
        ResidualVQ(2, 16, 6).encode(torch.zeros(1, 6, 50))
