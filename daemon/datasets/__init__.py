"""Readers of public data sets: each turns one into the Arrow tables that others work from."""
