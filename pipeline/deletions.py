"""Photos whose rows were deleted from an output and must not come back when a job runs again.

Only digests of the ids are kept.
"""

import hashlib
import json

from cfr.pipeline import storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.manifests import Layout


def digest(image_id: str) -> str:
    """What is remembered of an id: 64 hex digits."""
    return hashlib.sha256(image_id.encode()).hexdigest()


def read_deleted(layout: Layout) -> frozenset[str]:
    """Digests of the ids that an output is to be without.

    Raises:
        UserError: the file that holds them is damaged.
    """
    if not storage.exists(layout.deleted):
        return frozenset()
    try:
        return frozenset(json.loads(storage.read_bytes(layout.deleted))["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{layout.deleted} is damaged ({error}); restore it, or run cfr delete again") from error


def note_deleted(layout: Layout, ids: frozenset[str]) -> None:
    """Remember that these photos are to stay out."""
    digests = read_deleted(layout) | {digest(image_id) for image_id in ids}
    text = json.dumps({"sha256": sorted(digests)}, indent=1)
    storage.publish(layout.deleted, text.encode() + b"\n", layout.scratch)
