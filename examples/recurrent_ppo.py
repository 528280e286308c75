"""CartPole with its velocities hidden, by proximal policy optimization with an LSTM, in one file.

Position and angle alone don't say where the pole is falling to: the policy has to remember. Actor and critic share one
LSTM. Several environments run side by side; after each so many steps the LSTM is trained on what they saw, row by row,
with its state as it was at the row's beginning and `resets` where an episode begins.

J. Schulman et al., "Proximal policy optimization algorithms", 2017; J. Schulman et al., "High-dimensional continuous
control using generalized advantage estimation", 2016. Needs gymnasium: pip install ".[examples]"

    python examples/recurrent_ppo.py [--steps 250000] [--seed 0] [--backend numpy] [--figure recurrent_ppo.png]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import gymnasium
import numpy as np

import recurray as rr

ENVIRONMENTS, STEPS, EPOCHS, MINIBATCHES, HIDDEN = 16, 128, 6, 2, 32
DISCOUNT, TRACE, CLIP, VALUE_WEIGHT, ENTROPY_WEIGHT, RATE = 0.99, 0.95, 0.2, 0.5, 0.005, 3e-3
SEEN = [0, 2]  # the cart's place and the pole's angle, not their velocities


def policy_loss(scores: np.ndarray, batch: dict[str, np.ndarray]) -> np.ndarray:
    """Return the gradient of PPO's loss with respect to the scores: of the two actions, and the value, (B, T, 3)."""
    policy, actions, advantage = rr.policies.Categorical(scores[..., :2]), batch["actions"], batch["advantage"]
    ratio = np.exp(policy.log_probability(actions) - batch["log_p"])
    # Beyond the bound, where the advantage would have it go farther, there is no gradient.
    follows = np.where(advantage > 0, ratio < 1 + CLIP, ratio > 1 - CLIP)
    dlogits = policy.backward(actions, -advantage * ratio * follows, np.full_like(ratio, -ENTROPY_WEIGHT))
    dvalue = 2 * VALUE_WEIGHT * (scores[..., 2] - batch["returns"])
    return np.concatenate([dlogits, dvalue[..., None]], axis=-1) / actions.size


def advantages(reward: np.ndarray, value: np.ndarray, ends: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Generalized advantage estimation over (B, T); ``following`` is the value after each step, 0 after a fall."""
    found, later = np.zeros_like(value), np.zeros(len(value), dtype=value.dtype)
    for t in reversed(range(value.shape[1])):
        surprise = reward[:, t] + DISCOUNT * following[:, t] - value[:, t]
        later = surprise + DISCOUNT * TRACE * later * ~ends[:, t]
        found[:, t] = later
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="CartPole without velocities, by recurrent PPO.")
    parser.add_argument("--steps", type=int, default=250_000, help="of all environments together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    model = rr.Sequential(
        rr.LSTM(len(SEEN), HIDDEN, seed=args.seed), rr.Linear(HIDDEN, 3, seed=args.seed + 1), backend=args.backend
    )
    backend = model.backend
    optimizer = rr.optim.Adam(model.params, lr=RATE)
    rng = np.random.default_rng(args.seed)
    next_step = gymnasium.vector.AutoresetMode.SAME_STEP
    environments = gymnasium.make_vec(
        "CartPole-v1", num_envs=ENVIRONMENTS, vectorization_mode="sync", vector_kwargs={"autoreset_mode": next_step}
    )
    observed, _ = environments.reset(seed=args.seed)
    begins = np.ones(ENVIRONMENTS, dtype=bool)  # whether this observation is an episode's first
    state, lengths, curve = None, np.zeros(ENVIRONMENTS, dtype=int), []
    recent: list[int] = []
    began, done = time.perf_counter(), 0

    def call(x: np.ndarray, state: Any, resets: np.ndarray) -> tuple[np.ndarray, Any]:
        y, state = model(backend.asarray(x[:, None]), state, resets=resets[:, None])
        return backend.to_numpy(y)[:, 0], state

    rows = {name: np.zeros((ENVIRONMENTS, STEPS), "float32") for name in ("reward", "value", "log_p", "following")}
    rows |= {name: np.zeros((ENVIRONMENTS, STEPS), bool) for name in ("resets", "ends")}
    rows |= {
        "x": np.zeros((ENVIRONMENTS, STEPS, len(SEEN)), "float32"),
        "actions": np.zeros((ENVIRONMENTS, STEPS), int),
    }
    updates = max(1, args.steps // (ENVIRONMENTS * STEPS))
    for update in range(updates):
        start = state
        for t in range(STEPS):
            x = observed[:, SEEN].astype("float32") * 3
            scores, state = call(x, state, begins)
            policy = rr.policies.Categorical(scores[:, :2])
            actions = policy.sample(rng)
            rows["x"][:, t], rows["resets"][:, t], rows["actions"][:, t] = x, begins, actions
            rows["value"][:, t], rows["log_p"][:, t] = scores[:, 2], policy.log_probability(actions)
            observed, _, falls, out_of_time, info = environments.step(actions)
            begins = falls | out_of_time
            rows["reward"][:, t], rows["ends"][:, t] = np.where(falls, 0.0, 0.05), begins
            rows["following"][:, t] = 0
            if out_of_time.any():  # the episode would have gone on: its worth is that of its last observation
                last = np.stack(
                    [np.asarray(each)[SEEN] if each is not None else np.zeros(2) for each in info["final_obs"]]
                )
                worth, _ = call(last.astype("float32") * 3, state, np.zeros_like(begins))
                rows["following"][out_of_time, t] = worth[out_of_time, 2]
            lengths += 1
            recent += lengths[begins].tolist()
            lengths[begins] = 0
        worth, _ = call(observed[:, SEEN].astype("float32") * 3, state, begins)
        after = np.concatenate([rows["value"][:, 1:], worth[:, 2:]], axis=1)
        following = np.where(rows["ends"], rows["following"], after)
        advantage = advantages(rows["reward"], rows["value"], rows["ends"], following)
        batch = rows | {"returns": advantage + rows["value"]}
        batch["advantage"] = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        optimizer.lr = RATE * (1 - update / updates)
        for _ in range(EPOCHS):
            for which in np.split(rng.permutation(ENVIRONMENTS), MINIBATCHES):
                part = {name: value[which] for name, value in batch.items()}
                before = start and tuple(own and type(own)(*(array[:, which] for array in own)) for own in start)
                scores, _, cache = model.forward(backend.asarray(part["x"]), before, resets=part["resets"])
                dy = policy_loss(backend.to_numpy(scores), part)
                grads, _ = rr.optim.clip_grad_norm(model.backward(cache, backend.asarray(dy))[2], 0.5)
                optimizer.step(grads)
        done += ENVIRONMENTS * STEPS
        recent = recent[-50:]
        curve.append((done, float(np.mean(recent))))
    seconds = time.perf_counter() - began
    print(f"{done:,} steps in {seconds:.0f} s: {done / seconds:,.0f} a second")
    print(f"episodes of {curve[0][1]:.0f} steps at first")
    print(f"the last 50: {curve[-1][1]:.0f} steps (500 at most)")

    if args.figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axis = figure.subplots()
        axis.plot(*zip(*curve, strict=True))
        axis.axhline(500, color="black", linewidth=0.6, linestyle=":")
        axis.set(xlabel="steps of all environments", ylabel="length of the last 50 episodes")
        figure.savefig(args.figure, dpi=100)


if __name__ == "__main__":
    main()
