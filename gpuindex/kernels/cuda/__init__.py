"""The operations on a GPU, compiled by Numba-CUDA: twins of those in `cpu`.

An operation is a function on the host that launches kernels and has the name
and the arguments of its CPU twin. Importing needs no GPU and compiles nothing.
"""
