"""Options that several commands have."""

import click

trust = click.option(
    "--trust",
    is_flag=True,
    help="Allow what was not made here by you to import and execute what it names.",
)
