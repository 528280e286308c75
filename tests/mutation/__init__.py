"""Mistakes that are planted in a copy of the library, to see whether the tests catch them."""
