"""A small network that tells an occluder from the face: photo, guidance and place on the face in, probability out.

It judges what the comparison of colours alone cannot: skin-coloured hands by their outline, white masks that the fit
has taken for pale skin, against shadows, beards and make-up, which belong to the face. It was trained by
scripts/occluder_network on renderings, and on composites of the two bundled photographs.
"""

import functools
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from cfr.model.photometric_fit import DARKEST, OPPONENT

WEIGHTS_FILE = "occluder_network.safetensors"
# Side of the pictures that the network sees: half the crop.
SIZE = 112
# Darkness level (0..1) at which log colours lose their meaning to sensor noise and compression.
NOISE_FLOOR = 0.06
WIDTHS = (24, 40, 72, 96)
INPUTS = 13


def occluder_features(photo: Tensor, guidance: Tensor, place: Tensor, inside: Tensor) -> Tensor:
    """What the network looks at: (B,13,H,W).

    Photo and guidance, the difference of their log opponent colours, the place on the face, and the mesh.

    Args:
        photo, guidance: (B,3,H,W) float32 RGB 0..1.
        place: (B,3,H,W) dm, position on the mean face.
        inside: (B,H,W) 0..1, the mesh.
    """
    opponent = OPPONENT.to(photo)
    log_photo = torch.einsum("oc,bchw->bohw", opponent, (photo.clamp(min=DARKEST) + NOISE_FLOOR).log())
    log_guidance = torch.einsum("oc,bchw->bohw", opponent, (guidance.clamp(min=DARKEST) + NOISE_FLOOR).log())
    mesh = inside[:, None]
    residual = (log_photo - log_guidance) * mesh * photo.new_tensor([1.0, 3.0, 3.0])[:, None, None]
    return torch.cat([2 * photo - 1, 2 * guidance - 1, residual, place, mesh], dim=1)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class OccluderNetwork(nn.Module):
    """An encoder and decoder with skip connections (U-Net, Ronneberger et al. 2015) on half-size pictures.

    The finest level has half the resolution of the answer, which it gives as four sub-pixels.
    """

    def __init__(self):
        super().__init__()
        fine, middle, coarse, deep = WIDTHS
        self.stem = _convolution(INPUTS, fine, stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(above, below, stride=2), _convolution(below, below))
            for above, below in ((fine, middle), (middle, coarse), (coarse, deep))
        )
        self.context = nn.Linear(deep, deep)
        self.up = nn.ModuleList(
            [
                _convolution(deep + coarse, coarse),
                nn.Sequential(_convolution(coarse + middle, middle), _convolution(middle, middle)),
                _convolution(middle + fine, fine),
            ]
        )
        self.head = nn.Conv2d(fine, 4, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Log odds (B,H,W) of an occluder from `occluder_features` (B,13,H,W); H and W multiples of 16."""
        levels = [self.stem(features)]
        for block in self.down:
            levels.append(block(levels[-1]))
        # What the whole picture shows decides how a place is to be read: its light, its grain, whether there is hair.
        values = levels.pop()
        values = values * 2 * torch.sigmoid(self.context(values.mean((2, 3))))[:, :, None, None]
        for block in self.up:
            values = block(torch.cat([F.interpolate(values, scale_factor=2), levels.pop()], 1))
        return F.pixel_shuffle(self.head(values), 2)[:, 0]

    @classmethod
    @functools.cache
    def load_default(cls, device: str = "cpu") -> "OccluderNetwork":
        """The weights that come with the package; one instance per device and process, do not change it."""
        data = resources.files("cfr.model").joinpath("data", WEIGHTS_FILE).read_bytes()
        network = cls()
        network.load_state_dict({name: value.float() for name, value in load_safetensors(data).items()})
        return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
