"""`python -m oxidecast.cli`: the `oxidecast` command."""

from oxidecast.cli import main

main()
