"""Formats that other programs read, one file each."""
