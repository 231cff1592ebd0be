"""The G-buffer made by OpenGL through pyrender: an independent check of `rasterize`, and an optional backend.

Never the default of a worker: it needs EGL (Debian: libegl1 libgl1-mesa-dri) and the packages of the extra `pyrender`.
A shader writes the number of the triangle into the colour; weights and depth are then computed as `rasterize` does.

One renderer lives as long as the process: deleting one ends EGL for all others of the process, and using it after a
fork hangs (which is refused here).
"""

import atexit
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfr.model.rasterize import GBuffer, resolve
from cfr.model.spans import NEAR_DEPTH

_MAX_TRIANGLES = 2**24 - 1

_VERTEX_SHADER = """#version 330 core
layout(location = 0) in vec3 position;
layout(location = INST_M_LOC) in mat4 inst_m;
uniform mat4 P;
uniform mat4 V;
uniform mat4 M;
void main() { gl_Position = P * V * M * inst_m * vec4(position, 1.0); }
"""
# pyrender insists on setting `color`; it is set to white.
_FRAGMENT_SHADER = """#version 330 core
uniform vec3 color;
out vec4 frag_color;
void main() {
    int number = gl_PrimitiveID + 1;
    frag_color = vec4(color * vec3(number & 255, (number >> 8) & 255, (number >> 16) & 255) / 255.0, 1.0);
}
"""


class PyrenderUnavailable(RuntimeError):
    """pyrender, OpenGL or EGL is missing here; the message says which and what to install."""


def rasterize_with_pyrender(
    pixels: Tensor, depth: Tensor, triangles: Tensor, size: int, cull_back_faces: bool = True
) -> GBuffer:
    """Rasterise with OpenGL; arguments and result as those of `rasterize`, on the CPU.

    Pixel centres on an edge may go to the other side's triangle than with `rasterize`, and depths closer than 24 bits
    resolve may change places.

    Raises:
        PyrenderUnavailable: if a package, EGL, or a process of its own (after a fork) is missing.
        ValueError: for more than 2^24 - 1 triangles.
    """
    if len(triangles) > _MAX_TRIANGLES:
        raise ValueError(f"{len(triangles)} triangles; pyrender's colour holds at most {_MAX_TRIANGLES}")
    renderer = _Renderer.of_this_process()
    ids = [
        renderer.triangle_ids(
            p.double().cpu().numpy(), d.double().cpu().numpy(), triangles.cpu().numpy(), size, cull_back_faces
        )
        for p, d in zip(pixels.detach(), depth.detach(), strict=True)
    ]
    triangle_id = torch.from_numpy(np.stack(ids)) if ids else torch.empty(0, size, size, dtype=torch.int64)
    return resolve(pixels.cpu(), depth.cpu(), triangles.cpu(), triangle_id)


class _Renderer:
    """The one offscreen renderer of this process, with the shader that draws triangle numbers."""

    _instance: "_Renderer | None" = None

    def __init__(self):
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        try:
            import pyrender
            from pyrender.shader_program import ShaderProgramCache

            self._pyrender = pyrender
            self._offscreen = pyrender.OffscreenRenderer(8, 8)
        except Exception as error:
            # What fails, and how, depends on which library is missing: ImportError, AttributeError, OpenGL errors.
            raise PyrenderUnavailable(
                f"pyrender cannot render here ({type(error).__name__}: {error}); it needs `make install-pyrender` and "
                "EGL (Debian: apt-get install libegl1 libgl1-mesa-dri)"
            ) from error
        self._process = os.getpid()
        # pyrender reads shaders by file name when it first compiles them.
        self._shaders = tempfile.TemporaryDirectory()
        atexit.register(self._shaders.cleanup)
        (Path(self._shaders.name) / "segmentation.vert").write_text(_VERTEX_SHADER)
        (Path(self._shaders.name) / "segmentation.frag").write_text(_FRAGMENT_SHADER)
        self._offscreen._renderer._program_cache = ShaderProgramCache(shader_dir=self._shaders.name)

    @classmethod
    def of_this_process(cls) -> "_Renderer":
        if cls._instance is None:
            cls._instance = cls()
        if cls._instance._process != os.getpid():
            raise PyrenderUnavailable("EGL was used before this process was forked; start it with `spawn` instead")
        return cls._instance

    def triangle_ids(self, pixels, depth, triangles, size: int, cull_back_faces: bool) -> np.ndarray:
        """(size,size) int64 numbers of the triangles shown by one image, -1 for none; all arrays numpy float64."""
        usable = np.isfinite(pixels).all(1) & np.isfinite(depth) & (depth > NEAR_DEPTH)
        kept = np.flatnonzero(usable[triangles].all(1))
        if not len(kept):
            return np.full((size, size), -1)
        # Any focal length gives the same picture of points that are unprojected with it.
        focal = float(size)
        scale = depth / focal
        points = np.stack([(pixels[:, 0] - size / 2) * scale, (size / 2 - pixels[:, 1]) * scale, -depth], axis=1)
        points = np.where(usable[:, None], points, 0)
        drawn = depth[triangles[kept]]
        pyrender = self._pyrender
        camera = pyrender.IntrinsicsCamera(
            focal, focal, size / 2, size / 2, znear=0.9 * drawn.min(), zfar=1.1 * drawn.max()
        )
        node = pyrender.Node(mesh=pyrender.Mesh([pyrender.Primitive(positions=points, indices=triangles[kept])]))
        scene = pyrender.Scene(nodes=[node])
        scene.add(camera, pose=np.eye(4))
        self._offscreen.viewport_width = self._offscreen.viewport_height = size
        flags = pyrender.RenderFlags.SEG
        if not cull_back_faces:
            flags |= pyrender.RenderFlags.SKIP_CULL_FACES
        colour, _ = self._offscreen.render(scene, flags, seg_node_map={node: (255, 255, 255)})
        number = colour.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16]) - 1
        return np.where(number >= 0, kept[number], -1)
