"""From the ONNX format to layers, and back."""
