"""What is timed side by side: recurray, its reference path, PyTorch, onnxruntime, LiteRT, the machine's own product."""

from recurray.benchmarks.contenders.base import Contender, Job
from recurray.benchmarks.contenders.lite_rt import LiteRT
from recurray.benchmarks.contenders.onnx_runtime import OnnxRuntime
from recurray.benchmarks.contenders.own import Own, Reference, on_device
from recurray.benchmarks.contenders.product import product
from recurray.benchmarks.contenders.pytorch import PyTorch

__all__ = ["Contender", "Job", "LiteRT", "OnnxRuntime", "Own", "PyTorch", "Reference", "on_device", "product"]
