"""`whet prepare` of a file with the columns text and label: FILE OUT. Prints seconds, rows, and the most memory of one of its processes."""

import json
import resource
import sys
import time
from pathlib import Path

from whet.recipe_file import build_recipe
from whet.stages.prepare import prepare_run


def main() -> None:
    """Prepare with the default recipe, from reading to the run's folder; Python's own start is not counted."""
    data = {"path": sys.argv[1], "text": "text", "label": "label"}
    recipe = build_recipe({"model": "builtin:minilm", "data": data, "objective": "classify"}, "bench")
    begun = time.perf_counter()
    run = prepare_run(recipe, out=Path(sys.argv[2]))
    seconds = time.perf_counter() - begun
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    kept = sum(1 for file in (run.path / "data").glob("*.jsonl") for _ in file.open())
    dropped = sum(1 for _ in (run.path / "rejects.jsonl").open())
    processor_s = sum(one.ru_utime + one.ru_stime for one in usages)
    max_rss = max(one.ru_maxrss for one in usages) * 1024
    print(
        json.dumps({"seconds": seconds, "processor_s": processor_s, "kept": kept, "dropped": dropped, "max_rss_bytes": max_rss})
    )


if __name__ == "__main__":
    main()
