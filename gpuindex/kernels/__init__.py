"""The index's compute, one package per device.

Operations are twins: `build`, `score`, `dense`, `topk` and `compact` have one
name and one signature on every device. Kernels neither log nor count.
"""
