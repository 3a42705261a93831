"""Steps: typed functions from file to file. One step is one node of a graph and one sentence of the methods."""
