"""One photo's face as a textured mesh: the photo's own texture, mirrored texture, and the fitted model's colours."""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.composite import CompositePainter
from cfr.model.frontalization.occluders import RemovableOccluders
from cfr.model.frontalization.one_photo import source_faces
from cfr.model.frontalization.outline import outline_trust
from cfr.model.frontalization.pyramids import push_pull, smooth_ratio
from cfr.model.frontalization.scene import Scene, build_scene
from cfr.model.frontalization.templates import TEMPLATES
from cfr.model.frontalization.texture import facing, take_texture
from cfr.model.images import encode_image
from cfr.model.lighting import shade
from cfr.model.photo_fits import PhotoFit
from cfr.model.rasterize import GBuffer, interpolate, sample_image
from cfr.model.texture_chart import TextureChart, chart_of

FORMATS = ("glb", "obj", "ply")
METRES = 0.1
"""Metres of a decimetre: files are in metres, as glTF wants it."""

# Texture pixels per pixel of the photo's crop: the view spans about 250 degrees, a face in its crop about 120.
_SMALL, _LARGE = 1024, 2048
# Cosines between surface and line of sight from which on, and from which on fully, a photo's pixels are used.
_GRAZING = (0.3, 0.5)
# Yaw in degrees from which on ears are taken from the photo: before that, hair and background are where they should be.
_EARS_SHOWN = 25.0
# Added to colours before ratios are taken: dark pixels are noise.
_DARK = 0.04


@dataclass(frozen=True)
class TexturedMesh:
    """A face without its pose: x right, y up, looking to z.

    Attributes:
        vertices, normals: (N,3) float32, metres and unit; corners of triangles with several places in the texture
            come once for each.
        triangles: (F,3) int64, counter-clockwise seen from outside; in the order of the face model's.
        uv: (N,2) float32 0..1, x right, y up.
        texture: (S,S,3) uint8 RGB; the photo's light is in it.
        own: (S,S) bool, texture that the photo itself shows; the rest is mirrored or predicted.
    """

    vertices: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    own: np.ndarray

    def save(self, path: str | PathLike) -> list[Path]:
        """Write a .glb, .obj (with .mtl and picture) or .ply (with picture, and colours of the vertices).

        Returns:
            The files, the mesh first.

        Raises:
            ValueError: another suffix.
            ModuleNotFoundError: trimesh is not installed.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in FORMATS:
            raise ValueError(f"{path}: a mesh ends in {', '.join('.' + each for each in FORMATS)}")
        try:
            import trimesh
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("meshes need trimesh: pip install 'cfr[mesh]'") from error
        picture = Image.fromarray(self.texture)
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
        )
        if kind != "glb":
            material = trimesh.visual.material.SimpleMaterial(image=picture)
            material.name = path.stem
        mesh = trimesh.Trimesh(
            self.vertices,
            self.triangles,
            vertex_normals=self.normals,
            visual=trimesh.visual.TextureVisuals(self.uv, material=material),
            process=False,
        )
        written = {"glb": _glb, "obj": _obj, "ply": _ply}[kind](mesh, path, self)
        for place, data in written.items():
            place.write_bytes(data)
        return list(written)


def textured_mesh(fit: PhotoFit, model: MorphableModel | None = None) -> TexturedMesh:
    """Texture a fitted face.

    Args:
        fit: from `PhotoFitter`.
        model: the one that was fitted; default: the package's own.
    """
    model = model or MorphableModel.load_default(str(fit.crop.device))
    # A large face is sampled finely: pixels of the photo per pixel of its crop.
    scale = int(np.clip(np.ceil(1 / fit.affine[0]), 1, 4))
    chart = chart_of(model, _SMALL if scale == 1 else _LARGE)
    with torch.inference_mode():
        colour, own = _painted(model, fit, chart, scale)
        return _assembled(model, fit.coefficients, chart, colour, own)


def _painted(model: MorphableModel, fit: PhotoFit, chart: TextureChart, scale: int) -> tuple[Tensor, Tensor]:
    """The texture (3,S,S) RGB 0..1, and (S,S) bool where it is the photo's own."""
    faces = source_faces(fit, scale)
    frontal = fit.coefficients.pose.new_zeros(1, 3)
    scene = build_scene(model, RemovableOccluders(model), faces, frontal, TEMPLATES["crop224"], 224)
    # What a photo shows at a slant is a few pixels of skin or of the background, spread over much of the mesh.
    cosine = interpolate(scene.source.gbuffer, facing(scene.source), model.triangles)
    usable = scene.usable * ((cosine - _GRAZING[0]) / (_GRAZING[1] - _GRAZING[0])).clamp(0, 1)
    if abs(fit.yaw) < _EARS_SHOWN:
        ears = (model.region == model.region_names.index("ears")).float()[None, :, None]
        usable = usable * (interpolate(scene.source.gbuffer, ears, model.triangles) < 0.5)
    scene = replace(scene, usable=usable)
    colours = model.albedo(fit.coefficients.albedo) * shade(scene.source.mesh.normals, fit.coefficients.light)
    view, cells = (_seen_on(scene, gbuffer, colours) for gbuffer in (chart.view, chart.cells))
    painted = CompositePainter().paint(view)
    in_cells, own_in_cells = _painted_cells(model, cells, chart, view.guidance, painted.colour)
    covered = chart.view.covered[:, None].float()
    # The colours go on beyond the surface's rim, so that filtering a texture mixes no black into it.
    colour = push_pull(painted.colour, covered)
    colour = torch.where(chart.cells.covered[:, None], in_cells, colour)
    own_pixels = torch.where(chart.cells.covered, own_in_cells, painted.own & chart.view.covered)
    return colour[0].clamp(0, 1), own_pixels[0]


def _painted_cells(
    model: MorphableModel, cells: Scene, chart: TextureChart, guidance: Tensor, painted: Tensor
) -> tuple[Tensor, Tensor]:
    """Colours (1,3,S,S) of the cells, and (1,S,S) bool where they are the photo's own.

    Neighbours in the picture are no neighbours on the face, so nothing is blended across them. The model's colours take
    the tint that the chart's view has at the same place.
    """
    covered = chart.view.covered[:, None].float()
    tint = smooth_ratio(((painted + _DARK) / (guidance + _DARK)).log(), covered, chart.size // 64)
    places = interpolate(chart.cells, chart.places[None], model.triangles)
    gain = sample_image(tint, places.permute(0, 2, 3, 1)).exp()
    tinted = ((cells.guidance + _DARK) * gain - _DARK).clamp(0, 1)
    trusted = cells.usable * outline_trust(cells.photo, cells.source, cells.pose)
    own = take_texture(cells.photo, trusted, cells.source, cells.target, model.triangles)
    share = (2 * own.trust).clamp(max=1)
    return tinted * (1 - share) + own.colour * share, share[:, 0] > 0.5


def _seen_on(scene: Scene, gbuffer: GBuffer, colours: Tensor) -> Scene:
    """The scene with the texture's picture in place of the wanted view; colours (1,V,3) of the vertices."""
    guidance = interpolate(gbuffer, colours.clamp(0, 1), scene.triangles)
    return replace(scene, target=replace(scene.target, gbuffer=gbuffer), guidance=guidance)


def _assembled(
    model: MorphableModel, coefficients: Coefficients, chart: TextureChart, colour: Tensor, own: Tensor
) -> TexturedMesh:
    """Vertices once where all their triangles agree on a place in the texture, once for each triangle elsewhere."""
    vertices = model.shape(coefficients.identity, coefficients.expression)
    normals = model.vertex_normals(vertices)[0]
    shared = model.triangles[chart.in_view]
    used, index = shared.unique(return_inverse=True)
    uv = chart.uv.new_zeros(len(model.mean_shape), 2)
    uv[shared] = chart.uv[chart.in_view]
    alone = model.triangles[~chart.in_view].flatten()
    origin = torch.cat([used, alone])
    triangles = torch.empty_like(model.triangles)
    triangles[chart.in_view] = index
    triangles[~chart.in_view] = (len(used) + torch.arange(len(alone), device=alone.device)).view(-1, 3)
    return TexturedMesh(
        vertices=(vertices[0, origin] * METRES).cpu().numpy(),
        normals=normals[origin].cpu().numpy(),
        triangles=triangles.cpu().numpy(),
        uv=torch.cat([uv[used], chart.uv[~chart.in_view].flatten(0, 1)]).cpu().numpy(),
        texture=(colour * 255).round().byte().permute(1, 2, 0).cpu().numpy(),
        own=own.cpu().numpy(),
    )


def _glb(mesh, path: Path, textured: TexturedMesh) -> dict[Path, bytes]:
    return {path: mesh.export(file_type="glb")}


def _obj(mesh, path: Path, textured: TexturedMesh) -> dict[Path, bytes]:
    from trimesh.exchange.obj import export_obj

    text, extra = export_obj(mesh, include_normals=True, return_texture=True, mtl_name=f"{path.stem}.mtl")
    return {path: text.encode()} | {path.with_name(name): data for name, data in extra.items()}


def _ply(mesh, path: Path, textured: TexturedMesh) -> dict[Path, bytes]:
    """MeshLab and trimesh read the texture by its name in a comment; others see the colours of the vertices."""
    size = len(textured.texture)
    place = np.stack([textured.uv[:, 0], 1 - textured.uv[:, 1]], 1) * size
    column, row = place.astype(int).clip(0, size - 1).T
    for name, values in zip(("red", "green", "blue"), textured.texture[row, column].T, strict=True):
        mesh.vertex_attributes[name] = values
    picture = path.with_suffix(".png")
    header, end, body = mesh.export(file_type="ply", vertex_normal=True).partition(b"element vertex")
    comment = f"comment TextureFile {picture.name}\n".encode()
    return {path: header + comment + end + body, picture: encode_image(textured.texture)}
