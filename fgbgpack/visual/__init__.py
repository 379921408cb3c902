"""What people look at to judge a dataset: descriptions and figures."""
