#!/usr/bin/env bash
# Make the weights of the preset "default" from a folder of training data: the steps of README.md, in their order.
#
#     bash research/default_model/run.sh DATA [WORK]
#
# DATA    the training data; README.md lists its files
# WORK    takes texts, models and checkpoints (build/default_model); the result is WORK/default
# TEACHER (variable) hub id or folder of the teacher (sentence-transformers/all-mpnet-base-v2)
# PYTHON  (variable) the interpreter (.venv/bin/python), which has torch and sentence-transformers-echo[train]
#
# A step that is done is not repeated: started again with the same WORK, this goes on where it was stopped. Nothing in
# the repository is changed.
set -euo pipefail

if [[ $# -lt 1 || $# -gt 2 ]]; then
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
data=$(cd "$1" && pwd)
work=${2:-$root/build/default_model}
teacher=${TEACHER:-sentence-transformers/all-mpnet-base-v2}
python=${PYTHON:-$root/.venv/bin/python}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$work/done"
cd "$work"

step() {  # step NAME COMMAND...: run the command, unless it has been run in this work folder
    if [[ -e done/$1 ]]; then
        echo "== $1 (done before)"
        return
    fi
    echo "== $1"
    "${@:2}"
    touch "done/$1"
}
make() { "$python" -m "research.default_model.$1" "${@:2}"; }
train() {  # train RECIPE OUTPUT: as `echo-embeddings train RECIPE`, with the texts of this folder and this teacher
    "$python" -c '
import os, sys
from sentence_transformers_echo.training import Recipe, train
path, output, teacher = sys.argv[1:]
train(Recipe.load(path, data_folder=os.getcwd(), output=output, teacher=teacher), resume=True)
' "$here/$1" "$2" "$teacher"
}

step 1_texts            make step_1_texts "$data" texts-1.jsonl
step 1_more_texts       make step_1_texts "$data" texts-2.jsonl --count 64000 --everyday 16000
step 2_distill          train step_2_distill.yaml run-1
step 3_distill_more     train step_3_distill_more.yaml run-2
step 4_passages         make step_4_passages "$data" passages.jsonl
step 5_rank             train step_5_rank.yaml run-3
step 6_corpus           make step_6_corpus "$data" corpus.jsonl
step 7_generated        make step_7_generated generated.jsonl --ask-about passages.jsonl
step 8_rank_on_gpu      make step_8_rank_on_gpu corpus.jsonl generated.jsonl \
                            --teacher "$teacher" --start run-3 --output run-4 --seconds 375
step 9_words            make step_9_words "$data" corpus.jsonl generated.jsonl --old run-4 --output default
step 10_ranges          make step_10_ranges "$data" --output default

echo "The model is in $work/default. Try it: EchoEncoder(\"$work/default\")"
