"""All two-way marginals of a table in SmartNoise, for `dagster_project.benchmark.peers`.

Runs in an environment with smartnoise-synth and smartnoise-sql; for arguments and output see
`peer_opendp`. Two implementations: the measurements of SmartNoise's MST synthesizer (Gaussian
noise, one draw of OpenDP for each cell), and SQL over a data frame (discrete Laplace noise of the
same variance), which also parses queries and keeps a budget.
"""

import itertools
import json
import math
import sys
import tempfile
import time

import numpy as np
import pandas as pd
import yaml
from mbi import Dataset, Domain
from snsql import Privacy, from_connection
from snsynth.mst import MSTSynthesizer


def synthesizer(codes, sizes, names, pairs, sigma):
    rows = Dataset(codes, Domain(names, sizes))
    mst = MSTSynthesizer(epsilon=1.0)
    each = sigma / math.sqrt(len(pairs))  # `measure` divides by the normalised weight of a pair

    def measure():
        return [m.noisy_measurement.tolist() for m in mst.measure(rows, pairs, each)]

    return measure


def sql(codes, sizes, names, pairs, sigma):
    columns = {
        name: {"type": "int", "lower": 0, "upper": size - 1}
        for name, size in zip(names, sizes, strict=True)
    }
    table = {"row_privacy": True, "censor_dims": False, "rows": len(codes), **columns}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"": {"people": {"people": table}}}, file)
        file.flush()
        # Discrete Laplace noise of scale 1 / epsilon has the standard deviation sqrt(2) / epsilon.
        reader = from_connection(
            pd.DataFrame(codes, columns=names),
            privacy=Privacy(epsilon=math.sqrt(2) / sigma, delta=1e-9),
            metadata=file.name,
        )

    def measure():
        tables = []
        for a, b in pairs:
            query = f"SELECT {a}, {b}, COUNT(*) AS n FROM people.people GROUP BY {a}, {b}"
            cells = reader.execute(query)[1:]
            tables.append([n for *_, n in sorted(cells)])
        return tables

    return measure


def main():
    file, sigma, seconds, *sizes = sys.argv[1:]
    codes, sizes = np.load(file), [int(size) for size in sizes]
    names = [f"a{i}" for i in range(len(sizes))]
    pairs = list(itertools.combinations(names, 2))
    answers = {}
    for name, way in (("smartnoise-synth, MST", synthesizer), ("smartnoise-sql", sql)):
        measure = way(codes, sizes, names, pairs, float(sigma))
        times, started = [], time.perf_counter()
        while len(times) < 3 or time.perf_counter() - started < float(seconds):
            before = time.process_time()
            noisy = measure()
            times.append(time.process_time() - before)
        answers[name] = {"seconds": min(times), "noisy": noisy}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
