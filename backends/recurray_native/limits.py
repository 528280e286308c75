"""The engine as one of threadpoolctl's libraries, so that who limits all threads of a process limits the engine's."""

from __future__ import annotations

from importlib.util import find_spec

from recurray_native import threads

API = "recurray"


def register() -> None:
    """Make the engine known to threadpoolctl, where that is installed."""
    if find_spec("threadpoolctl") is None:
        return
    import threadpoolctl

    if not hasattr(threadpoolctl, "register"):  # before 3.2
        return

    class Controller(threadpoolctl.LibController):  # type: ignore[misc]
        """What threadpoolctl asks a library."""

        user_api = internal_api = API
        filename_prefixes = ("librecurray_native", "recurray_native")

        def get_num_threads(self) -> int:
            """Return how many threads the engine may use."""
            return threads.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            """Set that, as it was before too."""
            threads.restore(num_threads)

        def get_version(self) -> None:
            """Return nothing: the library is its package's."""

    threadpoolctl.register(Controller)
