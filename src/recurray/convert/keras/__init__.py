"""Keras's files, read without Keras and without HDF5's library."""
