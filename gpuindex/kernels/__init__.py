"""The index's compute, one package per device.

Operations are twins: `build`, `score`, `dense`, `topk` and `fold` have one name
and one signature on every device, and give the same bytes. Kernels neither log
nor count.
"""
