"""The models of the second level: designs, fits, multiplicity, change over time. Arrays and plain data, no files."""
