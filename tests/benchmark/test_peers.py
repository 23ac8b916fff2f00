"""The comparison with other implementations: what is compared, in this environment alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from dagster_project.benchmark import peers
from dagster_project.table import marginals


@pytest.fixture
def answering(monkeypatch):
    """Peers that answer with the exact counts of the rows they are given, and some noise."""

    def answer(scale):
        def apart(folder, packages, script, file, sigma, seconds, *sizes):
            counts = marginals.two_way(np.load(file), [int(size) for size in sizes])
            rng = np.random.default_rng(0)
            noisy = [
                (table + rng.normal(0, scale * float(sigma), table.shape)).ravel().tolist()
                for table in counts.values()
            ]
            return json.dumps({packages[0]: {"seconds": 9.0, "noisy": noisy}})

        monkeypatch.setattr(peers, "_apart", apart)

    return answer


def test_ratios_of_the_marginals_by_implementation(answering, capsys):
    answering(1.0)
    options = ["--only", "marginals", "--rows", "300", "--seconds", "0", "--json"]
    peers.main([*options, "--opendp", "one", "--smartnoise", "other"])
    (rows,) = json.loads(capsys.readouterr().out)["tables"].values()
    assert list(rows) == ["table.measurements", peers.OPENDP[0], peers.SMARTNOISE[0]]
    assert rows["table.measurements"]["ratio"] == 1
    own, other = rows["table.measurements"]["seconds"], rows[peers.OPENDP[0]]
    assert other["ratio"] == pytest.approx(other["seconds"] / own, abs=0.01)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_a_peer_that_counts_other_rows_or_adds_other_noise_is_no_peer(answering, scale):
    answering(scale)
    asked = {"peer_opendp.py": (Path("one"), peers.OPENDP)}
    with pytest.raises(ValueError, match="standard deviation"):
        peers.two_way_marginals(300, seconds=0, peers=asked)


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        peers.main(["--only", "pictures"])
    assert "marginals" in capsys.readouterr().err
