"""The report: scores with intervals, slices and a verdict, as JSON, as a page and on the terminal."""
