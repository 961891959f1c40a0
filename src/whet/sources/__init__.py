"""Where rows come from that are not in files of the recipe's own: collected once into a folder, a page at a time."""
