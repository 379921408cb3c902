"""What samples are: placement, the compositor, and their kernels."""
