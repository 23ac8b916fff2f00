"""A private step of the coarse network in JAX Privacy, for `dagster_project.benchmark.peers`.

Runs in an environment with jax-privacy; arguments: people, noise draws, people in a microbatch and
seconds. Prints the shortest CPU time of a step and the number of parameters.
"""

import sys
import time

import jax
import jax.numpy as jnp
import jax_privacy
import optax

PATCH, SIZE, PLACES, DEPTH, CONDITION, RECORD, FEATURES = 2, 32, 49, 3, 64, 25, 32
PIXELS, SIDE, DATA = 4, 14, 0.5


def initial(key):
    """Return the weights of the mixer with the shapes of `image.mixer`."""
    shapes = {
        "stem": (PIXELS, SIZE),
        "condition": (RECORD + FEATURES, CONDITION),
        "guess": (CONDITION, SIDE * SIDE),
        "head": (SIZE, PIXELS),
    }
    for i in range(DEPTH):
        shapes[f"modulate{i}"] = (CONDITION, 2 * SIZE)
        shapes |= {f"across{i}": (PLACES, SIZE), f"back{i}": (SIZE, PLACES)}
        shapes |= {f"within{i}": (SIZE, 2 * SIZE), f"out{i}": (2 * SIZE, SIZE)}
    keys = jax.random.split(key, len(shapes))
    return {
        name: (0.1 * jax.random.normal(k, shape), jnp.zeros(shape[1]))
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def norm(h):
    centred = h - h.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-5)


def network(weights, x, level, record):
    """Map (K, 14, 14), (K,), (K, RECORD) to (K, 14, 14)."""

    def layer(name, h):
        w, b = weights[name]
        return h @ w + b

    angles = level[:, None] * jnp.exp(jnp.linspace(-3, 3, FEATURES // 2))
    seen = jnp.concatenate([record, jnp.sin(angles), jnp.cos(angles)], axis=1)
    condition = jax.nn.silu(layer("condition", seen))
    shown = x + layer("guess", condition).reshape(x.shape)
    half = SIDE // PATCH
    patches = shown.reshape(-1, half, PATCH, half, PATCH).transpose(0, 1, 3, 2, 4)
    h = layer("stem", patches.reshape(-1, PLACES, PIXELS))
    for i in range(DEPTH):
        scale, shift = jnp.split(layer(f"modulate{i}", condition)[:, None], 2, axis=2)
        mixed = (norm(h) * (1 + scale) + shift).swapaxes(1, 2)
        h = h + layer(f"back{i}", jax.nn.silu(layer(f"across{i}", mixed))).swapaxes(1, 2)
        h = h + layer(f"out{i}", jax.nn.silu(layer(f"within{i}", norm(h))))
    out = layer("head", norm(h)).reshape(-1, half, half, PATCH, PATCH)
    return out.transpose(0, 1, 3, 2, 4).reshape(x.shape)


def loss(weights, batch):
    """Return the loss of people, averaged over them and their draws."""
    image, sigma, noise, record = (part.reshape(-1, *part.shape[2:]) for part in batch)
    noisy = image + sigma[:, None, None] * noise
    total = jnp.sqrt(sigma**2 + DATA**2)[:, None, None]
    raw = network(weights, noisy / total, jnp.log(sigma) / 4, record)
    estimate = DATA**2 / total**2 * noisy + sigma[:, None, None] * DATA / total * raw
    weight = (sigma**2 + DATA**2) / (sigma * DATA) ** 2
    return (weight * jnp.square(estimate - image).mean(axis=(1, 2))).mean()


def main():
    people, draws, microbatch, seconds = (int(float(word)) for word in sys.argv[1:5])
    keys = jax.random.split(jax.random.key(0), 6)
    rows = (people, draws)
    batch = (
        jax.random.uniform(keys[0], (*rows, SIDE, SIDE)),
        jax.random.uniform(keys[1], rows) + 0.1,
        jax.random.normal(keys[2], (*rows, SIDE, SIDE)),
        jax.random.uniform(keys[3], (*rows, RECORD)),
    )
    weights = initial(keys[4])
    optimiser = optax.adam(1e-5)
    clipped = jax_privacy.clipped_grad(
        loss, l2_clip_norm=1.0, normalize_by=people, microbatch_size=microbatch
    )

    @jax.jit
    def step(weights, state, key):
        gradients = clipped(weights, batch)
        leaves, tree = jax.tree.flatten(gradients)
        noisy = [
            leaf + jax.random.normal(k, leaf.shape) / people
            for leaf, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
        ]
        updates, state = optimiser.update(jax.tree.unflatten(tree, noisy), state)
        return optax.apply_updates(weights, updates), state

    state, times = optimiser.init(weights), []
    started = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < seconds:
        before = time.process_time()
        jax.block_until_ready(step(weights, state, keys[5]))
        times.append(time.process_time() - before)
    print(min(times[1:]), sum(leaf.size for leaf in jax.tree.leaves(weights)))


if __name__ == "__main__":
    main()
