"""Pictures, statistics and descriptions of a dataset, and checks of depth models."""
