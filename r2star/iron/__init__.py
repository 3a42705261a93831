"""From R2* to iron: calibrations with their source and limits, and norms of age. One TOML file each."""

from r2star.iron.calibration import Calibration, Iron, convert_to_iron, parse_calibration, refuse_mismatch

__all__ = ["Calibration", "Iron", "convert_to_iron", "parse_calibration", "refuse_mismatch"]
