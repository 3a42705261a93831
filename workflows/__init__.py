"""The graph layer: steps as nodes, nodes as graphs of a unit and a participant. The only importer of nipype."""

import os

# before nipype's first import anywhere: it must not call home
os.environ.update({"NO_ET": "1", "NIPYPE_NO_ET": "1"})
