"""Headwater's observability: metrics, freshness, health and what shows them.

The lowest layer: every other package may import it, and it imports none of
them. It asks nobody for state; the owners of state report here.
"""
