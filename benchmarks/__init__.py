"""Where the figures in the documents come from; README.md lists the axes.

A module that can be run (`python -m benchmarks.NAME --json FILE`) is a
benchmark. It measures Headwater and its peers side by side in one run, prints
what it finds, and writes its rows.
"""
