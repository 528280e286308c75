"""A guitar amplifier learned from what goes in and what comes out.

Both are made here: plucked strings by Karplus and Strong's algorithm, and an amplifier by a formula: a valve whose bias
gives way while it is loud, so that it remembers, between two filters. An LSTM with a Linear layer learns it in chunks,
with the state carried from chunk to chunk, by the error-to-signal ratio (ESR) after a pre-emphasis filter.

A. Wright, E.-P. Damskagg, L. Juvela & V. Valimaki, "Real-time guitar amplifier emulation with deep learning", 2020;
K. Karplus & A. Strong, "Digital synthesis of plucked-string and drum timbres", 1983.

    python examples/guitar_amp.py [--seed 0] [--backend numpy] [--figure guitar_amp.png] [--wav guitar_amp.wav]
"""

from __future__ import annotations

import argparse
import time
import wave
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import recurray as rr

RATE = 16_000  # samples a second
SECONDS, HELD_OUT = 7.0, 2.0
ROW, CHUNK, BURN_IN = 4_000, 1_000, 500  # samples
HIDDEN, BATCH, EPOCHS = 16, 7, 50


def guitar(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Return plucked strings, a note about every quarter of a second, between -1 and 1."""
    sound = np.zeros(int(seconds * RATE))
    begin = 0
    while begin < len(sound):
        length = min(int(RATE * rng.uniform(0.15, 0.5)), len(sound) - begin)
        period = int(RATE / (82.4 * 2 ** (rng.integers(30) / 12)))  # from the low E on
        wave_ = rng.uniform(-1, 1, period) * rng.uniform(0.2, 1)
        note = []
        for _ in range(-(-length // period)):
            note.append(wave_)
            wave_ = 0.996 * (0.5 * wave_ + 0.5 * np.roll(wave_, 1))
        sound[begin : begin + length] += np.concatenate(note)[:length]
        begin += 1 + int(length * rng.uniform(0.7, 1))
    return sound / np.abs(sound).max()


def amplifier(x: np.ndarray) -> np.ndarray:
    """Return what the amplifier makes of x: a valve with a bias that follows the loudness, and filters."""
    follow, smooth, block = np.exp(-1 / (0.01 * RATE)), 0.55, 0.995
    loud = low = y = before = 0.0
    out = np.empty_like(x)
    for n, sample in enumerate(x.tolist()):
        loud = max(abs(sample), loud * follow)
        valve = np.tanh(6 * sample - 1.2 * loud) if sample > 0 else np.tanh(3 * sample - 1.2 * loud)
        low += (1 - smooth) * (valve - low)  # the loudspeaker's treble
        y = block * (y + low - before)  # a capacitor: no constant voltage
        before = low
        out[n] = y
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="A guitar amplifier.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    parser.add_argument("--wav", type=Path, help="a file for the sound: the guitar, the amplifier, the model")
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    clean = guitar(rng, SECONDS + HELD_OUT).astype("float32")
    loud = amplifier(clean).astype("float32")
    held = int(SECONDS * RATE)
    rows = [signal[:held].reshape(-1, ROW, 1) for signal in (clean, loud)]
    tested = tuple(signal[None, held:, None] for signal in (clean, loud))

    model = rr.Sequential(
        rr.LSTM(1, HIDDEN, seed=args.seed), rr.Linear(HIDDEN, 1, seed=args.seed), backend=args.backend
    )
    updates = EPOCHS * -(-len(rows[0]) // BATCH) * -(-(ROW - BURN_IN) // CHUNK)
    history = rr.fit(
        model,
        partial(rr.losses.esr, per_row=False),
        rr.optim.Adam(model.params, lr=0.01),
        (rows[0], rows[1]),
        batch_size=BATCH,
        epochs=EPOCHS,
        chunk=CHUNK,
        burn_in=BURN_IN,
        validation=tested,
        schedule=rr.schedules.Cosine(lr=0.01, steps=updates),
        seed=args.seed,
    )

    backend = model.backend
    stream = rr.Streaming(model)
    began = time.perf_counter()
    blocks = np.split(tested[0], range(64, tested[0].shape[1], 64), axis=1)  # as a sound card hands them over
    played = np.concatenate([backend.to_numpy(stream(backend.asarray(block))) for block in blocks], axis=1)
    seconds = time.perf_counter() - began
    plain = float(np.sum((played - tested[1]) ** 2) / np.sum(tested[1] ** 2))
    print(f"{SECONDS:g} s of guitar to learn from")
    print(f"ESR {history['validation_loss'][0]:.3f}, then {history['validation_loss'][-1]:.4f}")
    print(f"without pre-emphasis {plain:.4f}")
    print(f"in blocks of 64: {HELD_OUT / seconds:.0f} times real time")

    if args.wav:
        sound = np.concatenate([tested[0], tested[1], played], axis=1).ravel()
        with wave.open(str(args.wav), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    if args.figure:
        draw(history, tested[0].ravel(), tested[1].ravel(), played.ravel()).savefig(args.figure, dpi=100)


def draw(history: rr.History, clean: np.ndarray, loud: np.ndarray, played: np.ndarray) -> Any:
    """Draw the training, and 20 ms of the sounds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1)
    above.plot(history["epoch"], history["loss"], label="training")
    above.plot(history["epoch"], history["validation_loss"], label="held out")
    above.set(xlabel="epoch", ylabel="ESR", yscale="log")
    above.legend()
    begin = int(np.abs(clean[: -RATE // 50]).argmax())
    part = slice(begin, begin + RATE // 50)
    milliseconds = np.arange(RATE // 50) / RATE * 1000
    below.plot(milliseconds, clean[part], color="0.7", label="guitar")
    below.plot(milliseconds, loud[part], color="black", label="amplifier")
    below.plot(milliseconds, played[part], linestyle="--", color="tab:orange", label="model")
    below.set(xlabel="milliseconds")
    below.legend()
    return figure


if __name__ == "__main__":
    main()
