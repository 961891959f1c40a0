"""Places that a trained run is bundled for."""
