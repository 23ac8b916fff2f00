"""Per-example gradients against one ordinary backward pass for each example."""

import pytest
import torch
from torch import nn

from dagster_project.image import gradients
from dagster_project.image.gradients import agrees, fastest, ignores_places, per_example_engine
from dagster_project.image.microbatches import microbatch_size
from dagster_project.pipeline.image_model import losses
from tests.image.toys import LEVELS, batch, network

KINDS = ("layers", "vmap", "loop")

# In double precision the comparison is one of formulas, not of roundings.


def exact(channels=1):
    return network(channels).double()


def examples_of(people, **changes):
    return {n: t.double() for n, t in batch(people, **changes).items()}


def one_at_a_time(model, examples):
    """Ordinary autograd: example by example, draw by draw, written without the product's loss."""
    people, draws = examples["sigma"].shape
    rows = []
    for i in range(people):
        model.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for k in range(draws):
            sigma, clean = examples["sigma"][i, k], examples["image"][i]
            noisy = clean + sigma * examples["noise"][i, k]
            norm = (sigma**2 + LEVELS.sigma_data**2).sqrt()
            raw = model(
                (noisy / norm)[None],
                (sigma.log() / 4)[None],
                examples["record"][i][None],
                examples["condition_mask"][i, k][None],
            )[0]
            skip, out = (LEVELS.sigma_data / norm) ** 2, sigma * LEVELS.sigma_data / norm
            error = skip * noisy + out * raw - clean
            total = total + error.square().mean() / out**2
        (total / draws).backward()
        rows.append({n: p.grad.clone() for n, p in model.named_parameters()})
    return {n: torch.stack([row[n] for row in rows]) for n in rows[0]}


def named(model, rows):
    """Split rows (B, P) into the gradients (B, *shape) of the trained parameters."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    parts = rows.split([p.numel() for p in trained.values()], dim=1)
    return {
        n: part.unflatten(1, p.shape) for (n, p), part in zip(trained.items(), parts, strict=True)
    }


def relative_error(found, expected):
    """Largest error of any parameter's gradient over its own norm.

    Some gradients are zero in exact arithmetic (a softmax ignores what all its keys share): below
    1e-6 of the whole gradient nothing is compared.
    """
    assert found.keys() == expected.keys()
    whole = torch.cat([e.flatten() for e in expected.values()]).norm()
    return max(
        float((found[n] - e).norm() / torch.maximum(e.norm(), 1e-6 * whole))
        for n, e in expected.items()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_engine_agrees_with_ordinary_backward(kind, channels):
    model = exact(channels)
    examples = examples_of(3, draws=3, channels=channels)
    expected = one_at_a_time(model, examples)
    # Every layer takes part, the normalisations and the attention too.
    assert all(e.abs().sum() > 0 for e in expected.values())
    assert any("norm" in n for n in expected) and any("middle.query" in n for n in expected)
    found = named(model, per_example_engine(model, losses, kind)(examples))
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_agrees_on_the_whole_gradient(kind):
    model, examples = network(), batch(4)
    expected = one_at_a_time(model, examples)
    found = per_example_engine(model, losses, kind)(examples)

    joined = torch.cat([part.flatten(1) for part in expected.values()], dim=1)
    error = (found - joined).norm(dim=1) / joined.norm(dim=1)
    assert error.max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_memory_format_changes_nothing(kind):
    model = exact(3)
    examples = examples_of(2, channels=3)
    expected = one_at_a_time(model, examples)
    laid_out = {**examples, "image": examples["image"].to(memory_format=torch.channels_last)}
    assert not laid_out["image"].is_contiguous()
    found = named(model, per_example_engine(model, losses, kind)(laid_out))
    assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_an_example_knows_nothing_of_its_neighbours(kind):
    """Otherwise one person would move the clipped gradients of others."""
    model, examples = exact(), examples_of(3)
    engine = per_example_engine(model, losses, kind)
    together = named(model, engine(examples))
    changed = {n: t.clone() for n, t in examples.items()}
    for tensor in (changed["image"], changed["noise"]):
        tensor[1:] = 5.0
    beside_others = named(model, engine(changed))
    first = {n: g[:1] for n, g in together.items()}
    assert relative_error({n: g[:1] for n, g in beside_others.items()}, first) < 1e-6
    assert relative_error({n: g[1:] for n, g in beside_others.items()},
                          {n: g[1:] for n, g in together.items()}) > 0.1  # fmt: skip


@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_engine_follows_the_parameters_of_the_model(kind):
    """Steps move the parameters between two calls of one engine."""
    model, examples = exact(), examples_of(1)
    engine = per_example_engine(model, losses, kind)
    before = named(model, engine(examples))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05)
    found = named(model, engine(examples))
    assert relative_error(found, before) > 1e-3
    assert relative_error(found, one_at_a_time(model, examples)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_persons_gradient_depends_on_nobody_else_to_the_last_bit(kind):
    """In a microbatch of one size, whoever else is in it and wherever the person stands."""
    engine = per_example_engine(network(), losses, kind)
    alone = {name: part[:1] for name, part in batch(1).items()}
    seen = set()
    for place in range(8):
        crowd = batch(8, seed=place + 1)
        for name, part in alone.items():
            crowd[name][place] = part[0]
        seen.add(engine(crowd)[place].numpy().tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize("kind", ["layers", "vmap"])
@pytest.mark.parametrize(("draws", "passes"), [(1, 11), (3, 15)])
def test_no_place_in_a_microbatch_changes_a_gradient(kind, draws, passes):
    """With an odd number of rows it does, so microbatches do not have one."""
    people = microbatch_size(
        draws, passes=passes, batch=100.0, memory_bytes=1e9, parameters=10**4, on_gpu=False
    )
    crowd = batch(people, draws=draws)
    engine = per_example_engine(network(), losses, kind)
    here, moved = engine(crowd), engine({name: part.roll(1, 0) for name, part in crowd.items()})
    assert torch.equal(here.roll(1, 0), moved)


class Layered(nn.Module):
    """Every rule and its options: strides, dilations, layers without a bias, called twice."""

    def __init__(self, *, direct: bool = False) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 4, 3, stride=2, padding=(1, 2), dilation=(1, 2), bias=False)
        self.groups = nn.GroupNorm(2, 4)
        self.twice = nn.Linear(4, 4)
        self.norm = nn.LayerNorm((3, 4))
        self.frozen = nn.Linear(12, 5).requires_grad_(False)
        self.out = nn.Linear(5, 1, bias=False)
        self.loose = nn.Parameter(torch.ones(5))
        self.direct = nn.Parameter(torch.rand(5, 5)) if direct else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.groups(self.wide(x)).mean(dim=3).mT[:, :3]  # (B, 3, 4)
        h = self.norm(self.twice(self.twice(h).sigmoid()))
        h = self.frozen(h.flatten(1)) * self.loose
        return self.out(h if self.direct is None else h @ self.direct)[:, 0]


def squares(network, examples):
    people, draws = examples["x"].shape[:2]
    return network(examples["x"].flatten(0, 1)).square().view(people, draws).sum(dim=1)


def toy(**options):
    torch.manual_seed(1)
    model = Layered(**options).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model, {"x": torch.randn(5, 3, 1, 6, 7, dtype=torch.float64)}


@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_is_used_again_changes_nothing(kind):
    """What an earlier call left there is overwritten, zeros of an unused parameter too."""
    model, examples = toy()
    model.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    engine = per_example_engine(model, squares, kind)
    expected = engine(examples)
    assert not named(model, expected)["unused"].any()
    used = engine({"x": examples["x"].roll(1, 0)}).fill_(torch.nan)
    assert engine(examples, used) is used and torch.equal(used, expected)


def test_mixed_precision_keeps_no_weights():
    """Casts of weights are cached until their context ends, and a run is inside one context."""
    weight, x = nn.Parameter(torch.ones(2, 2)), torch.ones(1, 2)

    def cast():
        transposed = nn.functional.linear(x, weight).grad_fn.next_functions[1][0]
        return transposed.next_functions[0][0]

    engine = per_example_engine(network(), losses, "layers")
    with torch.autocast("cpu", torch.bfloat16):
        first = cast()
        assert cast() is first
        engine(batch(2))
        assert cast() is not first


def test_an_engine_that_minds_places_is_found_out():
    engine = per_example_engine(network(), losses, "layers")
    assert ignores_places(engine, batch(4))

    def minds(examples):
        found = engine(examples)
        found[0] *= 1 + 2**-20
        return found

    assert not ignores_places(minds, batch(4))


def test_every_rule_agrees_with_ordinary_backward():
    model, examples = toy()
    expected, found = (
        named(model, per_example_engine(model, squares, kind)(examples))
        for kind in ("loop", "layers")
    )
    assert relative_error(found, expected) < 1e-5
    assert "frozen.weight" not in expected and "loose" in expected
    assert all(e.abs().sum() > 0 for e in expected.values())


@pytest.mark.parametrize("direct", [False, True])
def test_the_fastest_engine_is_one_that_can_take_the_network(direct):
    """A matrix used outside a layer is not repeated for each row without changing the product."""
    model, examples = toy(direct=direct)
    exact_engine, layers = (per_example_engine(model, squares, kind) for kind in ("loop", "layers"))
    assert agrees(layers, exact_engine, examples) != direct
    kind = fastest(model, squares, examples)
    assert not direct or kind == "vmap"
    found = per_example_engine(model, squares, kind)(examples)
    assert relative_error(named(model, found), named(model, exact_engine(examples))) < 1e-5


def test_an_engine_is_measured_once_and_never_on_anybody_s_values(monkeypatch):
    model, examples = toy()
    seen = []

    def recorded(network, batch):
        seen.append(batch["x"].detach())
        return squares(network, batch)

    def seconds(engine, batch):
        return len(engine(batch))

    monkeypatch.setattr(gradients, "_seconds", seconds)
    first = fastest(model, recorded, examples)
    whole = [x for x in seen if x.shape == examples["x"].shape]
    assert len(whole) == 2 and torch.equal(whole[0], whole[1])
    assert not torch.isin(whole[0], examples["x"]).any()
    calls = len(seen)
    assert fastest(model, recorded, {"x": examples["x"] + 7}) == first and len(seen) == calls
    fastest(model, recorded, {"x": examples["x"][:3]})
    assert len(seen) > calls  # another shape
