#!/usr/bin/env bash
# cfr pairs on the Flink cluster of infra/flink/compose.yaml or kubernetes.yaml.
#   JOB_SERVER=localhost:8099 OUTPUT=s3://my-bucket/pairs INPUT='s3://my-bucket/shards/*.parquet' PARALLELISM=8 infra/flink.sh
# Run it again to resume. More flags go to cfr pairs.
set -euo pipefail
: "${INPUT:?}" "${OUTPUT:?a place that every worker reaches}"

# Parallelism = task managers x slots. The pool is the container beside each task manager, so it is at localhost there.
exec cfr pairs \
    --input "${INPUT}" \
    --output "${OUTPUT}" \
    --runner PortableRunner \
    --job_endpoint "${JOB_SERVER:-localhost:8099}" \
    --artifact_endpoint "${ARTIFACTS:-localhost:8098}" \
    --environment_type EXTERNAL \
    --environment_config localhost:50000 \
    --parallelism "${PARALLELISM:-2}" \
    "$@"
