"""Foregrounds cut out of photographs: alpha, colours without the old background, and how good they look."""
