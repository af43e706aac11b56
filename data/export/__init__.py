"""Images of pools and prepared data as files for other programs, each saying what it is.

about.py    what a file says of its image
png.py, npy.py, nifti.py, dicom.py    one format each
folder.py   a whole set, file by file, resumable
"""

from data.export.about import About, depth
from data.export.folder import FORMATS, write

__all__ = ["FORMATS", "About", "depth", "write"]
