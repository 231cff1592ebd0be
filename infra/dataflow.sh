#!/usr/bin/env bash
# cfr pairs on Dataflow with GPUs by right fitting.
#   PROJECT=my-project REGION=europe-west4 BUCKET=gs://my-bucket IMAGE=europe-docker.pkg.dev/my-project/cfr/worker:0.1.0 \
#       infra/dataflow.sh --views-per-face 2
# Run it again to resume. More flags go to cfr pairs.
set -euo pipefail
: "${PROJECT:?}" "${REGION:?}" "${BUCKET:?}" "${IMAGE:?the image of infra/Dockerfile, pushed to a registry}"

# --accelerator and --min-ram are resource hints: Dataflow starts machines that fit them (L4: the g2 family). They exclude
# --worker_accelerator. One SDK process per machine with several threads: all of them share one copy of the models.
exec cfr pairs \
    --input "${BUCKET}/shards/*.parquet" \
    --output "${BUCKET}/pairs" \
    --unit-rows 256 \
    --accelerator "type:nvidia-l4;count:1;install-nvidia-driver" \
    --min-ram 16GB \
    --runner DataflowRunner \
    --project "${PROJECT}" \
    --region "${REGION}" \
    --temp_location "${BUCKET}/tmp" \
    --sdk_container_image "${IMAGE}" \
    --sdk_location container \
    --experiments use_runner_v2 \
    --experiments no_use_multiple_sdk_containers \
    --number_of_worker_harness_threads 4 \
    --max_num_workers "${WORKERS:-100}" \
    --disk_size_gb 50 \
    "$@"
