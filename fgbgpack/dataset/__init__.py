"""What users hold: an open dataset, its batches, indices and splits."""
