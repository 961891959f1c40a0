"""Trackers: tools that show runs beside each other. They mirror a run; the run's folder stays the truth."""
