"""The index's compute, one package per device.

Operations are twins: `build`, `score`, `dense`, `topk`, `mark`, `fold`, `label` and
`sort_by_label` have one name and one signature on every device, and give the same
bytes. Kernels neither log nor count.
"""
