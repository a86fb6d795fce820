"""Ads in JSON straight to columns, without a Python object for any of their values."""
