"""imagefactory catalogue: what a catalogue lists, what is said of it, and how it is kept."""

import typer

from imagefactory.cli import catalogue_keep, catalogue_read, catalogue_relist

app = typer.Typer(no_args_is_help=True, help="Catalogues: what they list, and how they are kept.")
catalogue_read.register(app)
catalogue_relist.register(app)
catalogue_keep.register(app)
