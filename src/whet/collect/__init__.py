"""What sources have in common: pages of rows, the journal that makes collecting resumable, credentials, and a careful way to fetch."""
