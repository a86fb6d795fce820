"""The operations on a CPU, compiled by Numba; they hold no GIL while they run."""
