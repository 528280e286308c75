"""Pictures. Each function returns a figure of matplotlib, which is imported when one is drawn, not before.

===================  ==================================================================
``gates``            gates and states of a trace over time
``states``           the states of many units as a map
``history``          loss, metrics, learning rate and gradient norm of a training
``forecast``         a forecast with its intervals, after what it was made from
``gradient_norms``   the norm of each param's gradient, of one backward or over many
``bench``            what ``recurray bench`` measured
===================  ==================================================================

No figure is one of pyplot's: none is shown or kept by itself, and no setting of matplotlib is changed.
``figure.savefig(path)`` writes one; a notebook shows what a cell returns. Colours are such as colour-blind people can
tell apart.
"""

from recurray.plot.bench import bench
from recurray.plot.forecast import forecast
from recurray.plot.gates import gates
from recurray.plot.gradient_norms import gradient_norms
from recurray.plot.history import history
from recurray.plot.states import states

__all__ = ["bench", "forecast", "gates", "gradient_norms", "history", "states"]
