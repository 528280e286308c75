"""The CuPy backend: recurrences on a CUDA GPU. Importing it doesn't import CuPy; making a backend does.

A cell is recorded, and kernels are written for it, in this order:

    step                          what there is to say of a step: arrays, places, expressions, what is stored, carried
    forward_step, backward_step   say it of the recorded programs
    segments                      cuts a step where a value needs all units: at a mean, at a product amid the step
    kernels                       put a thread for each element, or a block for each row, around that
    kernel                        makes text of it; its fixed text is in functions.cuh
    compiled                      all that is written for a cell

`forward` and `backward` run them: a product, a launch, a product, a launch, with single products over all steps
before and after. A step is one launch each way, and two where there is a product amid the step. Where no unit waits
for another's output, as in the diagonal LSTM, all steps are one launch.

Or one kernel makes the recurrent product too, for one step or for all: `persistent`. `strategies` says which way is
taken when. `products` are the library's, of operands as they are or rounded; a `launcher` launches a kernel step after
step.

`library` is all that is CuPy's own, with `parts` of its memory, so that the tests can also run the rest with NumPy and
a C++ compiler in its place.

It has run with the real CuPy on an emulated device, not yet on a GPU.

A kernel can be looked at:

>>> from recurray.cells import LSTMCell
>>> from recurray_cupy.compiled import compiled
>>> (kernel,) = compiled(LSTMCell()).backward(projected=False).kernels
>>> print(kernel.source("float32"))  # doctest: +ELLIPSIS
typedef float real;
...
            const real v24 = v0 * v11;
...
"""

from recurray_cupy.backend import CupyBackend

__all__ = ["CupyBackend"]
