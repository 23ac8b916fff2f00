"""The network's shapes, its soft records and its null record."""

import pytest
import torch

from dagster_project.data.schema import Schema
from dagster_project.image.table_encoder import RecordLayout, TableEncoder
from tests.image.toys import LAYOUT, network, records


@pytest.mark.parametrize("size", [(28, 28), (40, 40), (64, 64), (8, 8), (13, 29), (9, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_output_has_the_shape_of_the_input(size, channels):
    model = network(channels)
    x = torch.randn(2, channels, *size)
    with torch.no_grad():
        out = model(x, torch.zeros(2), records(2), torch.ones(2))
    assert out.shape == x.shape and out.isfinite().all()


@pytest.mark.parametrize("widths", [(8,), (8, 16, 16)])
def test_depth_follows_the_settings(widths):
    with torch.no_grad():
        out = network(widths=widths)(
            torch.randn(1, 1, 28, 28), torch.zeros(1), records(1), torch.ones(1)
        )
    assert out.shape == (1, 1, 28, 28)


def answer(record, condition_mask, noise=0.0):
    torch.manual_seed(3)
    x = torch.randn(1, 1, 8, 8).expand(len(record), -1, -1, -1)
    with torch.no_grad():
        return network()(x, torch.full((len(record),), noise), record, condition_mask)


def test_null_record_is_independent_of_the_record():
    # Rows of one batch may be added up in another order.
    assert torch.allclose(*answer(records(2, seed=1), torch.zeros(2)), atol=1e-5)
    kept = answer(records(2, seed=1), torch.ones(2))
    assert not torch.equal(records(2, seed=1)[0], records(2, seed=1)[1])
    assert not torch.allclose(kept[0], kept[1], atol=1e-4)
    assert not torch.allclose(kept[0], answer(records(1, seed=1), torch.zeros(1))[0], atol=1e-4)


def test_every_attribute_matters_and_so_does_the_noise_level():
    base = torch.cat([torch.eye(size)[0] for size in LAYOUT.sizes])
    rows, start = [base], 0
    for size in LAYOUT.sizes:
        row = base.clone()
        row[start : start + size] = torch.eye(size)[size - 1]  # also the missing cell
        rows.append(row)
        start += size
    found = answer(torch.stack(rows), torch.ones(len(rows)))
    assert all(not torch.allclose(found[0], other, atol=1e-4) for other in found[1:])
    assert not torch.allclose(found[:1], answer(base[None], torch.ones(1), 1.0), atol=1e-4)


def test_soft_records_lie_between_the_hard_ones():
    """A categorical token is the mean of its cells' tokens; a number enters by its mean value."""
    encoder = TableEncoder(LAYOUT, 12)
    encoder.mix = torch.nn.Sequential(torch.nn.Identity())  # linear up to here
    condition_mask = torch.ones(3)

    def tokens(*blocks):
        record = torch.cat([torch.tensor(block) for block in blocks])
        return encoder(record[None], condition_mask[:1])[0]

    number, other = [1.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    hard = [tokens(torch.eye(3)[i].tolist(), number, other) for i in range(3)]
    uniform = tokens([1 / 3] * 3, number, other)
    assert torch.allclose(uniform, sum(hard) / 3, atol=1e-6)
    assert not torch.allclose(hard[0][0], hard[1][0], atol=1e-3)
    # Half in the bin at 0.25 and half in the one at 0.75 is the value 0.5, wherever it came from.
    middle = TableEncoder(RecordLayout(LAYOUT.sizes, (None, (0.5, 0.75), LAYOUT.midpoints[2])), 12)
    middle.mix = encoder.mix
    middle.load_state_dict(encoder.state_dict())
    at_half = middle(torch.tensor([[1.0, 0, 0, 1, 0, *other]]), condition_mask[:1])
    assert torch.allclose(tokens([1.0, 0, 0], [0.5, 0.5], other)[1], at_half[0, 1], atol=1e-6)


def test_layout_comes_from_the_schema():
    schema = Schema.from_dict(
        {
            "name": "toys",
            "person_id": "id",
            "n_public": 10,
            "image": {"column": "image", "channels": 1, "height": 8, "width": 8},
            "attributes": {
                "kind": {"kind": "categorical", "categories": ["a", "b"], "missing": True},
                "weight": {"kind": "numeric", "edges": [0, 2, 10], "missing": True},
            },
        }
    )
    layout = RecordLayout.of(schema)
    assert layout == RecordLayout(sizes=(3, 3), midpoints=(None, (0.1, 0.6)))
    assert layout.width == schema.width


def test_no_layer_mixes_people():
    model = network()
    assert not [m for m in model.modules() if "BatchNorm" in type(m).__name__]
    x, record = torch.randn(2, 1, 8, 8), records(2)
    with torch.no_grad():
        together = model(x, torch.zeros(2), record, torch.ones(2))
        alone = model(x[:1], torch.zeros(1), record[:1], torch.ones(1))
    assert torch.allclose(together[:1], alone, atol=1e-5)
