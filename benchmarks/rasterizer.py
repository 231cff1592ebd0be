"""Speed of the rasteriser and of what is done with its G-buffer: milliseconds per image, median.

Run: python benchmarks/rasterizer.py [--device cuda] [--batch 8] [--repeats 15]
One torch thread. The mesh is an egg of a head's size, half of which faces away, like a head's.
"""

import argparse
import statistics
import time

import torch

from cfr.model.camera import project, rotation_matrix, to_camera_space
from cfr.model.pyrender_backend import PyrenderUnavailable, rasterize_with_pyrender
from cfr.model.rasterize import interpolate, rasterize, reproject, sample_image


def egg(rings: int, sectors: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Closed surface of 2 * rings * sectors triangles, about as high as a head: vertices (V,3) dm, triangles (F,3)."""
    polar = torch.linspace(0, torch.pi, rings + 1)[:, None]
    around = torch.linspace(0, 2 * torch.pi, sectors + 1)[None]
    ring = torch.sin(polar)
    x, y, z = 0.75 * ring * torch.sin(around), torch.cos(polar).expand(-1, sectors + 1), 0.85 * ring * torch.cos(around)
    number = torch.arange((rings + 1) * (sectors + 1)).view(rings + 1, sectors + 1)
    a, b, c, d = (n.flatten() for n in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    return torch.stack([x, y, z], -1).view(-1, 3), torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def milliseconds(call, images: int, repeats: int, device: str) -> tuple[float, float]:
    """Median wall time and median CPU time (all threads) of a call, per image; on a busy machine trust the latter."""
    wall, cpu = [], []
    for repeat in range(repeats + 2):
        start, cpu_start = time.perf_counter(), time.process_time()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if repeat >= 2:
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
    return statistics.median(wall) / images * 1000, statistics.median(cpu) / images * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, batch = options.device, options.batch
    for size, (rings, sectors) in ((224, (115, 116)), (512, (187, 188))):
        vertices, triangles = (t.to(device) for t in egg(rings, sectors))
        poses = torch.stack([torch.linspace(-60, 60, batch), torch.linspace(-20, 20, batch), torch.zeros(batch)], 1)
        points = to_camera_space(
            vertices.expand(batch, -1, -1), rotation_matrix(poses.to(device)), torch.zeros(batch, 3, device=device)
        )
        pixels, depth = project(points)
        pixels = pixels * (size / 224)
        other_pixels, other_depth = pixels.roll(1, 0), depth.roll(1, 0)
        gbuffer = rasterize(pixels, depth, triangles, size)
        other = rasterize(other_pixels, other_depth, triangles, size)
        where, _ = reproject(gbuffer, other, other_pixels, other_depth, triangles)
        picture, nine = torch.rand(batch, 3, size, size, device=device), points.repeat(1, 1, 3)

        print(
            f"{len(triangles)} triangles, {size} px, {gbuffer.covered.float().mean():.0%} covered, "
            f"batch {batch}, {device}"
        )
        calls = {
            "rasterize": lambda: rasterize(pixels, depth, triangles, size),  # noqa: B023
            "rasterize, back faces too": lambda: rasterize(pixels, depth, triangles, size, False),  # noqa: B023
            "interpolate, 3 channels": lambda: interpolate(gbuffer, points, triangles),  # noqa: B023
            "interpolate, 9 channels": lambda: interpolate(gbuffer, nine, triangles),  # noqa: B023
            "reproject": lambda: reproject(gbuffer, other, other_pixels, other_depth, triangles),  # noqa: B023
            "sample_image": lambda: sample_image(picture, where),  # noqa: B023
            "pyrender": lambda: rasterize_with_pyrender(pixels, depth, triangles, size),  # noqa: B023
        }
        for name, call in calls.items():
            try:
                wall, cpu = milliseconds(call, batch, options.repeats, device)
                print(f"  {name:26s}{wall:8.2f} ms wall {cpu:8.2f} ms CPU")
            except PyrenderUnavailable as error:
                print(f"  {name:26s}{error}")


if __name__ == "__main__":
    main()
