"""Faults at random on a real installation, and a check that its state is the truth.

A generator writes ads, delivery states, deletions, events and erasures whose
outcome is known; faults strike while they are read; then everything that runs
must hold exactly what was written. All of it follows from one seed, as far as
the machine's timing lets it.
"""
