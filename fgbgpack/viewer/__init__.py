"""A page to browse datasets, and the server of it."""
