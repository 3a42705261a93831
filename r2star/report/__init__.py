"""Pages that need nothing but themselves, and the figures in them: one of each participant, one of the cohort."""
