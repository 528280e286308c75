"""Training: `fit`, the one training loop, and what it is made of.

==============  ================================================================================
``fitting``     the call: its arguments, checked before work starts
``batch``       what a batch is, and what batches come from
``data``        which form data have: ``rows`` in arrays, ``ragged`` rows, batches ``made`` elsewhere
``parts``       the parts of data by their names
``finite``      NaN and infinity in them
``share``       which rows of a batch a rank has
``pieces``      a batch cut in time: chunks with the state carried on, steps that warm it up
``update``      forward, loss, backward, clipping, and the optimizer's step
``ranks``       what several processes that train one model do together
``setup``       what a training is made of
``position``    where a training stands
``run``         its course: epochs, updates, rows of the history
``sums``        what is added up for a row
``divergence``  what is said of a loss or gradient that isn't finite
``resuming``    what going on needs, taken out of a training and put into one
``checkpoint``  that in a file
``evaluation``  the loss and metrics of data that isn't trained on
``best``        which row of the history is the best, its params, and when there is none any more
``history``     the table that `fit` returns
``progress``    what a terminal shows meanwhile
==============  ================================================================================
"""

from recurray.training.errors import TrainingError
from recurray.training.fitting import fit
from recurray.training.history import History
from recurray.training.run import Run

__all__ = ["History", "Run", "TrainingError", "fit"]
