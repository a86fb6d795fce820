"""The composition root: wiring, lifecycle, ingest, scoring, HTTP and the command line."""
