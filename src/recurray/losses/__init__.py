"""Losses: each returns its value and its gradient with respect to the prediction.

The formulas are those of ``torch.nn.functional``. All of them share the form ::

    value, gradient = loss(prediction, target, reduction="mean", *, mask=None)

- ``prediction`` and ``target`` are arrays of one library, on one device, float32 or float64; a floating-point
  ``target`` of the other precision is converted. Both results have the prediction's library, device and dtype.
- ``reduction="mean"`` divides the sum of the elementwise losses by their number, ``"sum"`` adds them up; the value
  is then a 0-d array. ``"none"`` gives the elementwise losses themselves, and the gradient of their sum.
- ``mask``, a boolean array of the elementwise losses' shape, says which of them count: the others are 0, as is
  their gradient, and "mean" divides by the number of those that count. What the prediction and the target hold in
  places that don't count, be it NaN or a class that doesn't exist, reaches neither the value nor the gradient.
  Trailing axes that the mask lacks are all alike: (batch, time), such as `recurray.lengths_to_mask` makes, says for
  (batch, time, features) which steps count, and the mean is over their elements. An axis of size 1 is alike too.
- At infinity a loss is its limit: a logit of minus infinity, for an answer that is ruled out, is a loss of 0 where that
  isn't the answer, infinity where it is. NaN gives NaN, and so does what has no limit: infinity against infinity in
  `mse`, `mae` and `huber`, and logits that rule out every class.
- Where nothing counts, or the arrays are empty, the value and the gradient are 0 ("mean" too, where PyTorch gives NaN).

Checks that need the arrays' values (a class out of range, a probability above 1) are made where the arrays lie in
the host's memory. On a GPU they would make the host wait: there a class out of range gives NaN.
"""

from recurray.losses.arguments import REDUCTIONS as REDUCTIONS
from recurray.losses.audio import esr
from recurray.losses.binary import binary_cross_entropy
from recurray.losses.classes import cross_entropy, nll
from recurray.losses.gaussian import gaussian_nll
from recurray.losses.hydrology import kge, nse
from recurray.losses.regression import huber, mae, mse, quantile

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "esr",
    "gaussian_nll",
    "huber",
    "kge",
    "mae",
    "mse",
    "nll",
    "nse",
    "quantile",
]
