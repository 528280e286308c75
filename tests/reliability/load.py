"""Works layers hard and sees whether anything goes wrong.

python tests/reliability/load.py [--seconds N] [--processes N]

In each process threads run layers on both engines of the NumPy backend, training and inference, ragged and streamed,
share some of them, copy and pickle them, and compare every result, bit for bit, with what one thread alone had computed
before. All the while the process forks children that do the same, gets signals, is interrupted in the midst of calls,
changes the number of the engine's threads, gives memory back, and switches threads as often as Python can.

NumPy's OpenBLAS works with one thread of its own, as it hangs where a process forks while several multiply.

A wrong bit, an error, a child that dies or doesn't come back, and a process that says nothing for two minutes are
counted and end the script with an error.
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import json
import os
import pickle
import random
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

import recurray as rr
from recurray.cells import SLSTMCell

THREADS = 4
SILENCE = 120.0  # seconds after which a process, or a child, is taken to hang
COUNTS = ("calls", "signals", "interruptions", "children", "wrong", "errors", "lost children", "hung")
WRONG = ("wrong", "errors", "lost children", "hung")


class Interruption(BaseException):
    """What a signal raises in the main thread, as Ctrl-C does."""


def engines() -> list[Any]:
    """The backends that work: NumPy's own engine, and the compiled one where it is installed."""
    found = [rr.get_backend("numpy", engine="numpy")]
    with suppress(rr.BackendUnavailableError):
        found.append(rr.get_backend("numpy", engine="native"))
    return found


def bits(*arrays: Any) -> int:
    return hash(tuple(a.tobytes() for a in arrays if a is not None))


def train(layer: Any, x: Any, lengths: Any) -> int:
    """Forward and backward."""
    y, state, cache = layer.forward(x, lengths=lengths, rng=np.random.default_rng(3))
    dx, _, grads = layer.backward(cache, y)
    return bits(y, *(state if isinstance(state, rr.State) else ()), dx, *grads.values())


def infer(layer: Any, x: Any, lengths: Any) -> int:
    return bits(layer(x, lengths=lengths)[0])


def stream(layer: Any, x: Any, lengths: Any) -> int:
    """Step by step, a row, by a layer of its own: one that several threads step through may take either of two ways."""
    streaming = rr.Streaming(copy.deepcopy(layer))
    return bits(*(streaming(x[:1, t : t + 1].copy()) for t in range(min(12, x.shape[1]))))


def copied(layer: Any, x: Any, lengths: Any) -> int:
    return infer(copy.deepcopy(layer), x, lengths)


def pickled(layer: Any, x: Any, lengths: Any) -> int:
    return infer(pickle.loads(pickle.dumps(layer)), x, lengths)


def works() -> list[tuple[partial[int], int]]:
    """What there is to do, and the bits that one thread alone gets."""
    rng, made = np.random.default_rng(0), []
    for backend in engines():
        options = {"backend": backend, "seed": 1}
        layers = [
            rr.LSTM(5, 12, 2, bidirectional=True, dropout=0.2, **options),
            rr.LSTM(20, 70, proj_size=9, dtype="float64", **options),
            rr.LSTM(8, 140, **options),
            rr.GRU(5, 33, reset_after=False, recompute=20, **options),
            rr.DiagonalLSTM(6, 50, **options),
            rr.Recurrent(SLSTMCell(), 4, 19, recurrent_dropout=0.2, **options),
            rr.Sequential(rr.LSTM(7, 16, **options), rr.LayerNorm(16, backend=backend), rr.Linear(16, 3, **options)),
        ]
        for layer in layers:
            inputs = getattr(layer, "input_size", 7)
            for batch, steps, ragged in ((1, 90, False), (6, 40, True), (40, 7, True)):
                x = rng.standard_normal((batch, steps, inputs)).astype(layer.dtype)
                lengths = [steps, *rng.integers(0, steps + 1, batch - 1)] if ragged else None
                kinds = [train, infer] + [copied, pickled] * (batch == 6)
                kinds += [stream] * (batch == 1 and layer.streamable)
                made += [partial(kind, layer, x, lengths) for kind in kinds]
    return [(work, work()) for work in made]


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        return Worker(args.worker, args.seconds).run()
    began, command = time.monotonic(), [sys.executable, __file__, "--seconds", str(args.seconds), "--worker"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with_pipes = {"stdout": subprocess.PIPE, "text": True, "bufsize": 1, "env": environment}
    running = [subprocess.Popen([*command, str(k)], **with_pipes) for k in range(args.processes)]
    total, ended, most = Counter(dict.fromkeys(COUNTS, 0)), 0, 0
    with selectors.DefaultSelector() as ready:
        for process in running:
            ready.register(process.stdout, selectors.EVENT_READ, [process, time.monotonic(), None])
        while ready.get_map():
            for key, _ in ready.select(timeout=1.0):
                line = key.fileobj.readline()
                if line:
                    key.data[1:] = time.monotonic(), json.loads(line)
                    continue
                ready.unregister(key.fileobj)
                counts = key.data[2] or {}
                total.update({name: counts.get(name, 0) for name in COUNTS})
                most = max(most, counts.get("MiB", 0))
                crashed = key.data[0].wait() not in (0, 1) or not counts.get("done")
                total["errors"] += crashed
                ended += not crashed
            for key in list(ready.get_map().values()):
                if time.monotonic() - key.data[1] > SILENCE:
                    total["hung"] += 1
                    key.data[0].send_signal(signal.SIGABRT)  # it then writes where its threads are
                    key.data[1] = time.monotonic()
    summary = ", ".join(f"{total[name]:,} {name}" for name in COUNTS)
    print(
        f"{time.monotonic() - began:,.0f} s of load: {summary}; "
        f"{ended} of {args.processes} processes ended, {most} MiB at most"
    )
    return 1 if any(total[name] for name in WRONG) or ended < args.processes else 0


class Worker:
    """A process under load: threads, and the main thread, which forks, signals and is interrupted."""

    def __init__(self, number: int, seconds: float) -> None:
        faulthandler.enable()
        self.random = random.Random(number)
        self.works = works()
        self.counts = Counter(dict.fromkeys(COUNTS, 0))
        self.until = time.monotonic() + seconds
        self.heartbeats = [0] * THREADS
        self.open = False  # whether an interruption may come now

    def run(self) -> int:
        signal.signal(signal.SIGUSR1, lambda *_: self.counts.update(signals=1))
        signal.signal(signal.SIGALRM, self.interrupt)
        sys.unraisablehook = self.unraisable
        threads = [threading.Thread(target=self.thread, args=(k,), daemon=True) for k in range(THREADS)]
        for thread in threads:
            thread.start()
        last, seen = time.monotonic(), [-1] * THREADS
        while time.monotonic() < self.until:
            sys.setswitchinterval(self.random.choice((1e-5, 5e-3)))
            self.interrupted_call()
            self.disturb()
            self.child()
            if time.monotonic() - last > 5:
                stuck = [k for k in range(THREADS) if self.heartbeats[k] == seen[k]]
                if stuck and time.monotonic() - last > SILENCE / 2:
                    self.counts["hung"] += len(stuck)
                    faulthandler.dump_traceback()
                if not stuck or time.monotonic() - last > SILENCE / 2:
                    last, seen = time.monotonic(), list(self.heartbeats)
                    self.report()
        for thread in threads:
            thread.join(timeout=SILENCE / 2)
            self.counts["hung"] += thread.is_alive()
        self.report(done=True)
        return 1 if any(self.counts[name] for name in WRONG) else 0

    def report(self, **more: Any) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(dict(self.counts) | {"MiB": peak} | more), flush=True)

    def thread(self, number: int) -> None:
        chosen = random.Random(f"{number} {os.getpid()}")
        while time.monotonic() < self.until:
            self.attempt(*chosen.choice(self.works))
            self.heartbeats[number] += 1

    def attempt(self, work: partial[int], expected: int) -> None:
        try:
            if work() != expected:
                self.counts["wrong"] += 1
                print(f"wrong bits: {work.func.__name__} of {work.args[0]!r}", file=sys.stderr)
            self.counts["calls"] += 1
        except Exception:
            self.counts["errors"] += 1
            traceback.print_exc()

    def interrupt(self, *_: Any) -> None:
        if self.open:
            self.open = False
            raise Interruption

    def interrupted_call(self) -> None:
        """A call that a signal breaks off somewhere; the next one must know nothing of it."""
        work, expected = self.random.choice(self.works)
        try:
            self.open = True
            signal.setitimer(signal.ITIMER_REAL, self.random.uniform(1e-4, 2e-2))
            self.attempt(work, expected)
            self.open = False
        except Interruption:
            self.counts["interruptions"] += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.attempt(work, expected)

    def unraisable(self, found: Any) -> None:
        if not isinstance(found.exc_value, Interruption):  # which Python drops where it comes amid a finalizer
            self.counts["errors"] += 1
            sys.__unraisablehook__(found)

    def disturb(self) -> None:
        for _ in range(self.random.randrange(20)):
            os.kill(os.getpid(), signal.SIGUSR1)
        _, native = engines()[0], engines()[-1]
        if self.random.random() < 0.2:
            native.release_memory()
        if native.engine == "native":
            import recurray_native

            recurray_native.set_num_threads(self.random.choice((1, 2, 3, None)))

    def child(self) -> None:
        """Fork while all threads are at work; the child computes as they do."""
        chosen = [self.random.choice(self.works) for _ in range(3)]
        child = os.fork()
        if not child:
            code = 3
            faulthandler.dump_traceback_later(SILENCE / 4)  # where it hangs, if it does
            try:
                code = 0 if all(work() == expected for work, expected in chosen) else 2
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        deadline, ended = time.monotonic() + SILENCE / 2, (0, 0)
        while ended == (0, 0) and time.monotonic() < deadline:
            ended = os.waitpid(child, os.WNOHANG)
            time.sleep(0.002)
        if ended == (0, 0):
            self.counts["hung"] += 1
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        elif os.waitstatus_to_exitcode(ended[1]):
            self.counts["lost children"] += 1
        self.counts["children"] += 1


if __name__ == "__main__":
    sys.exit(main())
