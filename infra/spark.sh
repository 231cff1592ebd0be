#!/usr/bin/env bash
# cfr pairs on the Spark cluster of infra/spark/compose.yaml.
#   JOB_SERVER=localhost:8099 OUTPUT=s3://my-bucket/pairs INPUT='s3://my-bucket/shards/*.parquet' infra/spark.sh
# Run it again to resume. More flags go to cfr pairs.
set -euo pipefail
: "${INPUT:?}" "${OUTPUT:?a place that every worker reaches}"

# Spark's executors decide the parallelism (--total-executor-cores of the cluster).
exec cfr pairs \
    --input "${INPUT}" \
    --output "${OUTPUT}" \
    --runner PortableRunner \
    --job_endpoint "${JOB_SERVER:-localhost:8099}" \
    --artifact_endpoint "${ARTIFACTS:-localhost:8098}" \
    --environment_type EXTERNAL \
    --environment_config localhost:50000 \
    "$@"
