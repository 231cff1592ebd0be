"""Identity encoder: IR-SE-50 (ArcFace, Deng et al. 2019) of face.evoLVe / InsightFace_Pytorch, 112 px -> 512 values."""

from torch import Tensor, nn
from torch.nn.functional import interpolate

_STAGES = ((64, 64, 3), (64, 128, 4), (128, 256, 14), (256, 512, 3))
_REDUCTION = 16
EMBEDDING_SIZE = 512
INPUT_SIZE = 112


class _SqueezeExcitation(nn.Module):
    """Features times a weight for each channel, from their mean."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // _REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class _Block(nn.Module):
    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        if channels == out_channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, out_channels, 3, 1, 1, bias=False),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            _SqueezeExcitation(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IdentityEncoder(nn.Module):
    """IR-SE-50: who a face belongs to."""

    def __init__(self):
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.body = nn.Sequential(
            *(
                _Block(channels if number == 0 else width, width, stride=2 if number == 0 else 1)
                for channels, width, count in _STAGES
                for number in range(count)
            )
        )
        self.output_layer = nn.Sequential(
            *(nn.BatchNorm2d(512), nn.Dropout(), nn.Flatten()),
            *(nn.Linear(512 * 7 * 7, EMBEDDING_SIZE), nn.BatchNorm1d(EMBEDDING_SIZE)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Embed faces.

        Args:
            image: (B,3,112,112) float RGB in -1..1; see `identity_crop`.

        Returns:
            (B,512) float, not normalised: compare by cosine.
        """
        return self.output_layer(self.body(self.input_layer(image)))


def identity_crop(image: Tensor) -> Tensor:
    """The part of the paper's aligned crop (B,3,224,224) that the encoder wants, (B,3,112,112); any range of values."""
    inner = image[..., 15:-40, 15:-15]
    return interpolate(inner, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=True)
