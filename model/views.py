"""Random views of the double rotation, reproducible per row."""

import hashlib

import numpy as np

YAW_LIMIT = 90.0
PITCH_LIMIT = 30.0
ROLL_LIMIT = 30.0
YAW_SPREAD = 90.0
PITCH_SPREAD = 15.0
ROLL_SPREAD = 15.0


def random_view(pose: np.ndarray, *, seed: int, image_id: str, face_index: int, view_index: int) -> np.ndarray:
    """Draw the pose from which the second rendering of the double rotation is made.

    Yaw is uniform within 90 degrees of the photo's and clamped to +-90; pitch and roll are uniform within 15 degrees
    of the photo's and clamped to +-30 (CFR-GAN, section 3.2). A counter-based generator (Philox) keyed by a digest
    of the arguments makes the draw independent of every other row, of the order of work and of retries.

    Args:
        pose: (3,) yaw, pitch, roll of the photo in degrees.
        seed: of the job.
        image_id, face_index, view_index: the row's key.

    Returns:
        (3,) float32 yaw, pitch, roll in degrees, absolute.
    """
    key = f"{seed}\x00{image_id}\x00{face_index}\x00{view_index}".encode()
    digest = hashlib.sha256(key).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    spread = np.array([YAW_SPREAD, PITCH_SPREAD, ROLL_SPREAD])
    limit = np.array([YAW_LIMIT, PITCH_LIMIT, ROLL_LIMIT])
    offset = generator.uniform(-1.0, 1.0, size=3) * spread
    return np.clip(np.asarray(pose, dtype=np.float64) + offset, -limit, limit).astype(np.float32)
