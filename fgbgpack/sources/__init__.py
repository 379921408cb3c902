"""Pictures in: decode, catalog, credits, and the pairing of files."""
