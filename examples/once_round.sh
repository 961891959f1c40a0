#!/usr/bin/env bash
# The whole life of a model once round, on the example tickets: from a file to a served, watched and retrained model.
#
#     bash examples/once_round.sh [FOLDER]        a new folder; without network; below 8 minutes on two cores
#
# Each step's output is checked here; a step that is not as it should be ends the script. Trainings are as short as they may be.
# once_round.py is the world around it: customers who ask, people who judge, and somebody who is told.
set -euo pipefail
step() { printf '\n=== %s s: %s\n' "$SECONDS" "$1"; }
world() { python3 "$here/once_round.py" "$@"; }
refused() { local code=0; "$@" || code=$?; [ "$code" = 3 ] && echo "  refused, as it should be" >&2; }
here=$(cd "$(dirname "$0")" && pwd); export HF_HUB_OFFLINE=1 PATH="$PATH:$here/../.venv/bin"
mkdir "${1:-once-round}"; cd "${1:-once-round}"; world files "$here/tickets/tickets.csv"
step "new: look at the file, and write a recipe; a person adds how to train, what to search, and a gate"
whet new first.csv --json > new.json; world check new.json 'found["objective"] == "classify" and found["rows"] == 760'
printf '%s\n' 'technique: lora' 'train: {epochs: 2, max_length: 48}' 'search: {space: {technique.rank: [2, 32]}, trials: 2}' 'gate: [{metric: accuracy, minimum: 0.7}]' >> recipe.yaml
step "prepare: read, clean, split, and account for every row; plan: what training will take"
whet prepare recipe.yaml --out runs/data --json > prepare.json; world check prepare.json 'found["rows"]["path"]["rows"] == 760'
whet plan recipe.yaml --json > plan.json; world check plan.json 'found["fits"] and found["memory"]["bytes"] > 2**27 and found["seconds"]["high"] > 0'
step "train, and evaluate against the untuned model, with a gate"
whet train recipe.yaml --out runs/first --json > train.json; whet evaluate runs/first --json > evaluate.json
world check evaluate.json 'found["gate"]["decision"] == "pass" and found["verdict"]["decision"] != "worse"'
step "search: other settings, compared on the validation rows"
whet search recipe.yaml --set train.max_steps=6 --out runs/search --json > search.json; world check search.json 'len(found["trials"]) == 2'
step "predict and chat: answers with their confidence"
whet predict runs/first ask.csv --json > predict.json; world check predict.json 'found["rows"] == 5 and not found["counts"]["errors"]'
whet chat runs/first "my hub is offline" --json > chat.json; world check chat.json 'found["messages"][-1]["role"] == "assistant"'
step "compress, export and deploy: smaller, in a format that other programs read, and a bundle to start elsewhere, each checked"
whet compress runs/first int8 --out runs/small --json > compress.json; world check compress.json 'found["size"]["times_smaller"] > 1.5'
whet export runs/first onnx --out runs/onnx --json > export.json; world check export.json 'found["check"]'
whet deploy runs/first docker --out runs/docker --json > deploy.json; world check deploy.json 'Path("runs/docker/Dockerfile").is_file()'
step "registry and serve: the first version is the champion, and the server follows that name"
whet registry add tickets runs/first --why "the first model" --json > added.json; world check added.json '"champion" in found["aliases"]'
whet serve tickets@champion --port 0 --log-text --json > serve.json & python3 "$here/once_round.py" listen alerts.jsonl & trap 'kill $(jobs -p)' EXIT
until [ -s serve.json ] && [ -s alerts.jsonl.port ]; do kill -0 %1 %2; sleep 0.2; done
step "monitor: customers ask and judge, and all is as it was"
world ask serve.json calm.csv; whet monitor tickets --fail-on-alarm --json > calm.json; world check calm.json 'found["verdict"]["decision"] == "fine"'
step "drift: customers ask what the model has never heard of; monitor sees it and tells"; since=$(date -u +%FT%T); world ask serve.json later.csv
refused whet monitor tickets --since "$since" --webhook "http://127.0.0.1:$(cat alerts.jsonl.port)" --fail-on-alarm --json > drift.json
world check drift.json 'found["verdict"]["decision"] == "retrain"'; world check alerts.jsonl 'found["alarms"]'
step "retrain: a challenger learns from the feedback; it must not be worse on old and new test rows, and is then promoted"
whet retrain tickets --log runs/requests.sqlite --promote if-better --out runs/second --json > retrain.json
world check retrain.json 'found["passed"] and found["better"] and found["promoted"]'; world follow serve.json 2; world ask serve.json calm.csv
step "sabotage: a challenger of wrong labels is refused by the gate, and not promoted"
refused whet retrain tickets sabotage.csv --from champion --set continual.replay=0 --promote if-passed --out runs/bad --json > bad.json
refused whet registry promote tickets challenger; whet registry show tickets --json > end.json
world check end.json 'found["aliases"] == {"champion": 2, "challenger": 3}'; step "once round"
