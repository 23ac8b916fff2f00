"""All two-way marginals of a table in OpenDP, for `dagster_project.benchmark.peers`.

Runs in an environment with opendp and numpy; arguments: a file of cell codes (.npy, rows by
attributes), the noise scale, seconds, and the number of cells of every attribute. Prints JSON: by
implementation, the shortest CPU time and the noisy counts of every pair.
"""

import itertools
import json
import sys
import time

import numpy as np
import opendp.prelude as dp


def main():
    file, sigma, seconds, *sizes = sys.argv[1:]
    sizes = [int(size) for size in sizes]
    codes = np.load(file)
    dp.enable_features("contrib")
    rows = dp.vector_domain(dp.atom_domain(T="i64")), dp.symmetric_distance()
    pairs = list(itertools.combinations(range(len(sizes)), 2))
    # Integer counts, to which OpenDP adds the discrete Gaussian of Canonne, Kamath and Steinke.
    # The measurements are made beforehand: they depend on the sizes alone.
    measurements = {
        (i, j): dp.t.make_count_by_categories(
            *rows,
            categories=list(range(sizes[i] * sizes[j])),
            null_category=False,
            MO=dp.L2Distance["f64"],
            TOA="i64",
        )
        >> dp.m.then_gaussian(scale=float(sigma))
        for i, j in pairs
    }

    def measure():
        return [
            measurements[i, j](codes[:, i] * sizes[j] + codes[:, j])  # it counts one column only
            for i, j in pairs
        ]

    times, started = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < float(seconds):
        before = time.process_time()
        noisy = measure()
        times.append(time.process_time() - before)
    print(json.dumps({"opendp": {"seconds": min(times), "noisy": noisy}}))


if __name__ == "__main__":
    main()
