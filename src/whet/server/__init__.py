"""The API that a trained run is asked through, and the local page."""
