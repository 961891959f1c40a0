"""People label rows: what is asked, where answers are kept, whose turn which row is, how far people agree, and the local page."""
