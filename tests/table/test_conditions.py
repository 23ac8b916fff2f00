"""Conditions: what is read, what is refused, and that draws are the conditional distribution."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from dagster_project.data.schema import Schema
from dagster_project.table.conditions import Condition, ConditionError, draw
from dagster_project.table.graphical_model import GraphicalModel

SCHEMA = Schema.from_dict(
    {
        "name": "toy",
        "person_id": "person",
        "n_public": 1000,
        "image": {"column": "image", "channels": 1, "height": 8, "width": 8},
        "attributes": {
            "finding": {"kind": "categorical", "categories": ["none", "effusion", "other"]},
            "age": {"kind": "numeric", "edges": [0, 20, 50, 90], "missing": True},
            "kind of view": {"kind": "categorical", "categories": ["1", "2"], "missing": True},
        },
    }
)
RECORDS = pd.DataFrame(
    {
        "finding": ["none", "effusion", "other", "effusion"],
        "age": [70.0, 60.0, np.nan, 30.5],
        "kind of view": ["1", None, "2", "1"],
    }
)


def model() -> GraphicalModel:
    """A chain of two cliques, with dependence."""
    rng = np.random.default_rng(3)
    first = rng.gamma(0.7, size=(3, 4)) + 0.01
    given = rng.dirichlet(np.ones(3), size=4)
    first /= first.sum()
    return GraphicalModel(
        names=SCHEMA.names,
        sizes=SCHEMA.sizes,
        cliques=[("finding", "age"), ("kind of view", "age")],
        marginals=[first, (first.sum(0)[:, None] * given).T],
        total=1000.0,
    )


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("finding == 'effusion' and age >= 60", [0, 1, 0, 0]),
        ("age < 50 or finding == 'none'", [1, 0, 0, 1]),
        ("not (age < 50 or finding == 'none')", [0, 1, 1, 0]),
        ("30 < age <= 60", [0, 1, 0, 1]),
        ("60 <= age", [1, 1, 0, 0]),
        ("finding in ['none', 'other']", [1, 0, 1, 0]),
        ("finding not in ('none', 'other')", [0, 1, 0, 1]),
        ("age is None", [0, 0, 1, 0]),
        ("age != None", [1, 1, 0, 1]),
        ("`kind of view` == 1", [1, 0, 0, 1]),
        ("`kind of view` != '1'", [0, 1, 1, 0]),
        ("age == -3", [0, 0, 0, 0]),
    ],
)
def test_what_holds(text: str, met: list[int]) -> None:
    assert Condition.parse(text, SCHEMA).holds(RECORDS).astype(int).tolist() == met


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "characters"),
        ("finding = 'none'", "cannot be read"),
        ("finding == 'non", "cannot be read"),
        ("finding", "compares attributes"),
        ("1 == 1", "not an attribute"),
        ("finding == age", "not a value"),
        ("find == 'none'", "the attributes are finding, age"),
        ("finding == 'efusion'", "its categories are none, effusion, other"),
        ("finding > 'none'", "no order"),
        ("age > 'old'", "is a number"),
        ("age > None", "no order"),
        ("finding in 'none'", "needs a list"),
        ("finding == ['none']", "compared with a list"),
        ("age + 1 > 3", "not an attribute"),
        ("__import__('os').system('true') == 0", "not an attribute"),
        ("age > __import__('os').getpid()", "not a value"),
        ("(lambda: age)() > 3", "not an attribute"),
        ("age.real > 3", "not an attribute"),
        ("f'{age}' == 'x'", "not an attribute"),
        ("[a for a in 'ab'] == age", "not a value"),
        ("(" * 300 + "age > 3" + ")" * 300, "cannot be read"),
    ],
)
def test_what_is_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConditionError, match=words) as refused:
        Condition.parse(text, SCHEMA)
    assert "\n" not in str(refused.value)


LISTED = Schema.from_dict(
    SCHEMA.to_dict()
    | {
        "attributes": {
            "findings": {"kind": "labels", "labels": ["Effusion", "Pleural mass"],
                         "column": "Finding Labels", "aliases": {"effus.": "Effusion"}},
            "age": {"kind": "age", "unit": "years", "edges": [0, 50, 90], "column": "Patient Age"},
        }
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("findings == 'Effusion'", "write findings_Effusion == True .the attributes of findings"),
        ("'effus.' == findings", "write findings_Effusion == True"),
        ("`Finding Labels` == 'Pleural mass'", "write `findings_Pleural mass` == True"),
        ("findings in ['Effusion', 'Pleural mass']", "Effusion == True or `findings_Pleural mass`"),
        ("findings == 'unheard of'", "are findings_Effusion, findings_Pleural mass"),
        ("`Patient Age` > 60", "write age$"),
        ("person == 'p1'", "no attribute of synthetic pairs"),
        ("finding == 'Effusion'", "did you mean findings"),
        ("Age > 60", "did you mean age"),
        ("findings_effusion == True", "did you mean findings_Effusion"),
        ("weight > 60", "no attribute 'weight': the attributes are"),
    ],
)
def test_what_names_no_attribute_is_led_to_one(text: str, words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        Condition.parse(text, LISTED)


@pytest.mark.parametrize(
    "text",
    [
        "finding == 'effusion' and age >= 60",
        "age >= 60 or `kind of view` is None",
        "not finding in ['none'] and 33 <= age < 35",
        "age is None and finding != 'other'",
    ],
)
def test_draws_are_those_of_the_model_that_meet_it(text: str) -> None:
    """Against plain rejection from the whole model."""
    condition, whole = Condition.parse(text, SCHEMA), model()
    drawn = draw(whole, condition, 4000, np.random.default_rng(1))
    assert condition.holds(drawn.records).all() and len(drawn.records) == 4000
    for i, attribute in enumerate(SCHEMA.attributes):
        assert (attribute.encode(drawn.records[attribute.name])[0] == drawn.codes[:, i]).all()
    rng = np.random.default_rng(2)
    codes = whole.sample(200_000, rng)
    met = condition.holds(SCHEMA.decode(codes, rng))
    assert drawn.share == pytest.approx(met.mean(), rel=0.12)
    for i, size in enumerate(SCHEMA.sizes):
        expected = np.bincount(codes[met][:, i], minlength=size) / met.sum()
        found = np.bincount(drawn.codes[:, i], minlength=size) / 4000
        assert np.abs(found - expected).max() < 0.04


def test_the_tree_is_restricted_exactly() -> None:
    whole = model()
    joint = whole.marginal(SCHEMA.names)
    allowed = {"age": np.array([0, 1, 1, 0], bool), "kind of view": np.array([1, 0, 0], bool)}
    narrowed, share = whole.given(allowed)
    joint = joint * allowed["age"][None, :, None] * allowed["kind of view"]
    assert share == pytest.approx(joint.sum())
    np.testing.assert_allclose(narrowed.marginal(SCHEMA.names), joint / joint.sum(), atol=1e-12)
    assert whole.given({"age": np.zeros(4, bool)}) == (None, 0.0)


FORMS = Schema.from_dict(
    SCHEMA.to_dict()
    | {
        "attributes": {
            "stay": {"kind": "numeric", "edges": [0, 5, 30], "integer": True, "missing": True},
            "visit": {
                "kind": "date",
                "edges": ["2015-01-01", "2020-01-01", "2024-01-01"],
                "format": "%d.%m.%Y",
            },
            "smoker": {"kind": "boolean", "missing": True},
            "years": {"kind": "age", "unit": "years", "edges": [0, 20, 60, 100]},
        }
    }
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("stay == 7", lambda r: r["stay"] == 7),
        ("4 < stay <= 6 and stay != 5", lambda r: r["stay"] == 6),
        ("stay is None", lambda r: r["stay"].isna()),
        ("visit >= '2019-12-30' and visit < '02.01.2020'",
         lambda r: r["visit"].map(lambda d: date(2019, 12, 30) <= d < date(2020, 1, 2))),
        ("smoker == True and years > 90", lambda r: (r["smoker"] == True)  # noqa: E712
         & r["years"].map(lambda text: int(text[:3]) > 90)),
        ("smoker != False", lambda r: r["smoker"].map(lambda v: v is not False)),
    ],
)  # fmt: skip
def test_every_form_of_value_is_compared_as_what_it_is(text: str, holds) -> None:
    sizes = FORMS.sizes
    whole = GraphicalModel(
        names=FORMS.names,
        sizes=sizes,
        cliques=[(name,) for name in FORMS.names],
        marginals=[np.ones(size) for size in sizes],
        total=500.0,
    )
    drawn = draw(whole, Condition.parse(text, FORMS), 40, np.random.default_rng(0))
    assert len(drawn.records) == 40 and holds(drawn.records).fillna(False).astype(bool).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [("visit > 3000.5", "is a date"), ("visit > 'soon'", "is a date"),
     ("smoker == 'perhaps'", "True or False"), ("stay > 'long'", "is a number"),
     ("smoker > False", "no order")],
)  # fmt: skip
def test_values_of_another_form_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        Condition.parse(text, FORMS)


@pytest.mark.parametrize("text", ["age == 60", "age > 200", "age < 0.0001 and age > 0.00005"])
def test_what_hardly_ever_happens_is_one_sentence(text: str) -> None:
    with pytest.raises(ConditionError, match="the table model draws a record with"):
        draw(model(), Condition.parse(text, SCHEMA), 50, np.random.default_rng(0))
