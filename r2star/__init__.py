"""r2star: from multi-echo gradient-echo MRI to R2* maps, regional iron and cohort statistics.

Importing the package costs next to nothing; each part is imported by name (``from r2star.fit import fit_decay``).
"""

__version__ = "0.1.0"
