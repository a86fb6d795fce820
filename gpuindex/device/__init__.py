"""The index on a device: what it holds of one, and searches there.

The writer's side on the host stays the truth: it alone applies, seals, folds,
looks ads up and writes snapshots. A device gets copies of what a search reads,
and answers with the bytes that the CPU would answer with.
"""
