"""Several processes that train one model: how its ranks tell each other what they have found.

`recurray.fit` takes a `Communicator`, one on each rank, or a communicator of mpi4py; a loop of your own can do so too.
"""

from recurray.parallel.communicator import Communicator, ParallelError, Serial
from recurray.parallel.mpi import MPICommunicator, as_communicator
from recurray.parallel.nccl import NCCLCommunicator

__all__ = ["Communicator", "MPICommunicator", "NCCLCommunicator", "ParallelError", "Serial", "as_communicator"]
