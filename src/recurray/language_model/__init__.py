"""Character language models: a text, a model of it, training that can be interrupted, and sampling.

Everything here is plain Python that returns values; the command line around it is in `recurray.command_line`.
Checkpoints need safetensors and the live display needs rich: ``pip install ".[train]"`` in a checkout.
"""
