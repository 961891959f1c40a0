"""Training by whet and by its peers, side by side: `make bench`, or `python -m bench.train --help` from the checkout's folder."""
