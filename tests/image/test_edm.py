"""Preconditioning, loss and sampler against their equations (Karras et al. 2022)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from dagster_project.image import edm
from dagster_project.settings.diffusion import SamplerSettings
from tests.image.toys import LEVELS, network, records

DATA = LEVELS.sigma_data


def level(sigma, people=2):
    return torch.full((people,), sigma)


def denoise(model, x, sigma):
    people = len(x)
    return edm.denoise(
        model, x, level(sigma, people), records(people), torch.ones(people), sigma_data=DATA
    )


def test_without_noise_the_denoiser_is_the_identity():
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(denoise(network(), x, 1e-6), x, atol=1e-4)
        assert not torch.allclose(denoise(network(), x, 1.0), x, atol=1e-2)


@pytest.mark.parametrize("sigma", [0.02, 0.5, 40.0])
def test_preconditioning_is_equation_7(sigma):
    seen = {}

    def raw(x, c_noise, record, condition_mask):
        seen.update(x=x, c_noise=c_noise)
        return torch.ones_like(x)

    x = torch.randn(2, 1, 4, 4)
    out = denoise(raw, x, sigma)
    total = sigma**2 + DATA**2
    assert torch.allclose(seen["x"], x / total**0.5, rtol=1e-5)
    assert torch.allclose(seen["c_noise"], level(sigma).log() / 4)
    expected = DATA**2 / total * x + sigma * DATA / total**0.5
    assert torch.allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_training_target_has_unit_variance():
    """c_in and c_out are chosen so that the network's input and target have variance one."""
    random = torch.Generator().manual_seed(0)
    clean = DATA * torch.randn(4000, 1, 4, 4, generator=random)
    noise = torch.randn(clean.shape, generator=random)
    for sigma in (0.05, 0.5, 5.0):
        inputs = []
        noisy = clean + sigma * noise

        def raw(x, *_, kept=inputs):
            kept.append(x)
            return torch.zeros_like(x)

        skipped = edm.denoise(raw, noisy, level(sigma, 4000), None, None, sigma_data=DATA)
        c_out = sigma * DATA / (sigma**2 + DATA**2) ** 0.5
        assert inputs[0].std().item() == pytest.approx(1, abs=0.02)
        assert ((clean - skipped) / c_out).std().item() == pytest.approx(1, abs=0.02)


def test_loss_is_the_mean_over_draws():
    """Noise multiplicity averages inside an example, before any clipping."""
    model, clean = network(), torch.rand(1, 1, 8, 8)
    sigma, noise = torch.tensor([0.1, 1.0, 7.0]), torch.randn(3, 1, 8, 8)
    record, condition_mask = records(1), torch.ones(3)

    def loss(chosen):
        n = len(chosen)
        return edm.loss(
            model, clean.expand(n, -1, -1, -1), sigma[chosen], noise[chosen],
            record.expand(n, -1), condition_mask[chosen], sigma_data=DATA,
        )  # fmt: skip

    with torch.no_grad():
        each = torch.stack([loss([k]) for k in range(3)])
        assert torch.allclose(loss([0, 1, 2]), each.mean(), rtol=1e-4)
        assert each.std() > 0.01


def test_noise_levels_are_log_normal():
    drawn = LEVELS.draw((20000,), torch.Generator().manual_seed(0)).log()
    assert drawn.mean().item() == pytest.approx(LEVELS.p_mean, abs=0.03)
    assert drawn.std().item() == pytest.approx(LEVELS.p_std, abs=0.03)


def test_levels_below_the_lowest_are_never_drawn_and_others_as_often_as_before():
    above = replace(LEVELS, lowest=0.3)
    drawn = above.draw((20000,), torch.Generator().manual_seed(0))
    all_levels = LEVELS.draw((60000,), torch.Generator().manual_seed(1))
    kept = all_levels[all_levels >= 0.3]
    assert drawn.min() >= 0.3 and drawn.isfinite().all()
    for q in (0.1, 0.5, 0.9, 0.99):
        assert drawn.quantile(q).item() == pytest.approx(kept.quantile(q).item(), rel=0.06)


@pytest.mark.parametrize("lowest", [0.0, 0.3])
def test_quantiles_of_the_noise_levels(lowest):
    levels = replace(LEVELS, lowest=lowest)
    known = stats.norm(LEVELS.p_mean, LEVELS.p_std)
    below = known.cdf(math.log(lowest)) if lowest else 0.0
    quantiles = np.array([0.01, 0.5, 0.999])
    expected = np.exp(known.ppf(below + quantiles * (1 - below)))
    assert levels.at(torch.tensor(quantiles)).numpy() == pytest.approx(expected, rel=1e-5)
    ends = levels.at(torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64))
    assert ends.isfinite().all() and (ends > 0).all() and ends[0] >= lowest


def sample(model, *, seed=0, people=3, shape=(1, 8, 8), record=None, levels=LEVELS, **changes):
    return edm.sample(
        model,
        records(people) if record is None else record,
        shape,
        levels=levels,
        settings=SamplerSettings(**{"steps": 4, "guidance": 1.0, **changes}),
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("changes", [{}, {"churn": 0.0}, {"heun": False}, {"guidance": 2.0}])
def test_one_seed_gives_one_result(changes):
    model = network()
    first = sample(model, **changes)
    assert first.shape == (3, 1, 8, 8)
    assert first.abs().max() <= 1
    assert torch.equal(first, sample(model, **changes))
    assert not torch.equal(first, sample(model, seed=1, **changes))


def test_settings_reach_the_result():
    model = network()
    plain = sample(model)
    for changes in ({"churn": 0.0}, {"heun": False}, {"guidance": 2.0}, {"steps": 5}):
        assert not torch.allclose(plain, sample(model, **changes), atol=1e-3)


class GaussianDenoiser(nn.Module):
    """F for which D is the exact denoiser of N(mean, spread^2), mean by the record's first cell."""

    spread = 0.1

    def forward(self, scaled, c_noise, record, condition_mask):
        sigma = (4 * c_noise).exp()[:, None, None, None]
        total = (sigma**2 + DATA**2).sqrt()
        noisy = scaled * total
        mean = (0.4 * (2 * record[:, 0] - 1) * condition_mask)[:, None, None, None]
        best = (self.spread**2 * noisy + sigma**2 * mean) / (self.spread**2 + sigma**2)
        return (best - DATA**2 / total**2 * noisy) / (sigma * DATA / total)


@pytest.mark.parametrize(("churn", "steps"), [(0.0, 18), (10.0, 60)])
def test_sampler_reproduces_a_gaussian(churn, steps):
    record = torch.zeros(400, 2)
    record[:200, 0] = 1
    # Levels far below the spread: sampling that ends higher keeps less of it.
    levels = edm.NoiseLevels(sigma_min=0.02)
    drawn = sample(
        GaussianDenoiser(),
        record=record,
        shape=(1, 4, 4),
        levels=levels,
        steps=steps,
        churn=churn,
    )
    for part, mean in ((drawn[:200], 0.4), (drawn[200:], -0.4)):
        assert part.mean().item() == pytest.approx(mean, abs=0.01)
        # Left over is the noise of the lowest level, which the last step removes.
        assert part.std().item() == pytest.approx(GaussianDenoiser.spread, rel=0.06)


def test_guidance_moves_away_from_the_null_record():
    record = torch.ones(200, 2)
    guided = sample(GaussianDenoiser(), record=record, shape=(1, 4, 4), steps=18, guidance=1.5)
    # D_null + w (D - D_null) has the mean w * 0.4 for a null record of mean 0.
    assert guided.mean().item() == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_without_guidance_the_network_is_asked_once(guidance):
    asked = []

    class Counted(GaussianDenoiser):
        def forward(self, x, c_noise, record, condition_mask):
            asked.append(condition_mask.unique().tolist())
            return super().forward(x, c_noise, record, condition_mask)

    options = {"record": torch.ones(200, 2), "shape": (1, 4, 4), "steps": 9}
    drawn = sample(Counted(), guidance=guidance, **options)
    assert len(asked) == 2 * 9 - 1
    assert asked == [[guidance]] * len(asked)
    assert drawn.mean().item() == pytest.approx(0.4 * guidance, abs=0.03)
