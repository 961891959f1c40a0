"""datatrove's MinHash pipeline over a folder of jsonl files: FOLDER WORK WORKERS. Prints seconds and rows kept.

Runs in an environment of its own: `pip install 'datatrove[processing]' orjson spacy`.
"""

import json
import shutil
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig


def main() -> None:
    """Run the four stages one after another, with datatrove's own numbers of bands and rows."""
    source, work, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    shutil.rmtree(work, ignore_errors=True)
    config = MinhashConfig(hash_config=HashConfig(precision=64))
    stages = (
        ([JsonlReader(str(source)), MinhashDedupSignature(str(work / "signatures"), config=config, language="eng")], workers),
        ([MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)], config.num_buckets),
        ([MinhashDedupCluster(str(work / "buckets"), str(work / "ids"), config=config)], 1),
        (
            [JsonlReader(str(source)), MinhashDedupFilter(str(work / "ids")), JsonlWriter(str(work / "out"), compression=None)],
            workers,
        ),
    )
    begun = time.perf_counter()
    for number, (stage, tasks) in enumerate(stages):
        logs = str(work / "logs" / str(number))
        LocalPipelineExecutor(stage, tasks=tasks, workers=min(tasks, workers), logging_dir=logs).run()
    seconds = time.perf_counter() - begun
    kept = sum(1 for file in (work / "out").rglob("*.jsonl") for _ in file.open())
    print(json.dumps({"seconds": seconds, "kept": kept}))


if __name__ == "__main__":
    main()
