"""The one package that reads and writes NIfTI images: verified reading, one grid rule, atomic writing.

May import numpy, isal, errors and `r2star.files`; never ants or nipype. Everything that other parts need is
named here.
"""

from r2star.images.grid import Grid, Image, from_canonical, to_canonical
from r2star.images.orientation import Xform
from r2star.images.reader import ImageReader
from r2star.images.reading import open_image, read_grid, read_image, read_images
from r2star.images.writing import ImageWriter, write_for_registration, write_image

__all__ = [
    "Grid",
    "Image",
    "ImageReader",
    "ImageWriter",
    "Xform",
    "from_canonical",
    "open_image",
    "read_grid",
    "read_image",
    "read_images",
    "to_canonical",
    "write_for_registration",
    "write_image",
]
