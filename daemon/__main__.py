"""`python -m daemon`: the same as `headwater`."""

from .cli import main

main()
