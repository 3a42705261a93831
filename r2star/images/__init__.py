"""The one package that reads and writes NIfTI images: verified reading, one grid rule, atomic writing.

May import numpy, isal, errors and `r2star.files`; never ants or nipype. Everything that other parts need is
named here. What can be wrong with an image, by code:

- E101 no such file, E102 broken link, E103 no regular file, E104 empty, E105 a pointer or a text
- E106 not gzipped as named, E107 gzipped though not named so, E113 another name
- E108 damaged gzip stream, E109 cut off, E110 other bytes after it, E111 a second image after it
- E112 more values than the header says
- E120 no NIfTI, E121 dimensions, E122 datatype, E123 bitpix, E124 vox_offset, E125 scaling, E126 too large
- E128 complex numbers, E140 values that are no labels
- E130 no orientation, E131 sform and qform disagree, E132 sheared, E133 unusable affine
- E134 implausible voxel size, E135 unusable qform, E136 unknown code of an orientation
- E150 written but does not read back, E151 values that the type can't hold
- W101 some bytes after the values, W102 assumed orientation, W103 sform and qform differ a little
- W104 pixdim is not the affine's, W105 slightly sheared, W106 another unit of length, W107 no bitpix
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
