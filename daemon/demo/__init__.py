"""The demo: the whole of Headwater on real data, told on screen as it happens."""
