"""What a training is for: the network's file, and the card that says how it was made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from cfr.model.training.files import write_atomically

CARD = "model_card.md"


@dataclass(frozen=True)
class Product:
    """What is exported.

    Attributes:
        weights: name of its file.
        title, tags, about: of the card; `about` says what it does and how to use it, {step} stands for the steps.
        scores: what the names of the scores mean.
    """

    weights: str
    title: str
    tags: str
    about: str
    scores: str


GENERATOR = Product(
    "generator.safetensors",
    "CFRNet generator",
    "pipeline_tag: image-to-image\ntags: [face-frontalization, de-occlusion, cfr-gan]",
    """\
Completes a rotated, damaged face with the help of a rendering of its face model. Exponential moving average of the
weights after {step} steps. Use: `cfr frontalize --generator generator.safetensors`.""",
    """\
`inside`: where the pair's occlusion mask is; `outside`: the rest of the face. `paste`: the guidance inside, `rotated`
outside. PSNR in dB.""",
)
REGRESSOR = Product(
    "regressor.safetensors",
    "3D face regressor",
    "pipeline_tag: image-feature-extraction\ntags: [3d-face-reconstruction, de-occlusion, cfr-gan]",
    """\
Regresses the coefficients of a 3D face model from an aligned crop. Exponential moving average of the weights after
{step} steps. Use: `cfr train-estimator --stage 2 --initial-regressor regressor.safetensors`.""",
    """\
Mean distances of the 68 points over the face's size: `landmarks_clean` and `landmarks_occluded` from the shards'
points, `drift` of the covered face's estimate from the one of the clean face. `teacher`: before this training.""",
)


def export_network(
    product: Product,
    folder: Path,
    network: nn.Module,
    step: int,
    numbers: Mapping[str, float],
    settings: str,
    facts: Mapping[str, object],
) -> None:
    """Write the weights and `model_card.md`.

    Args:
        product: what it is.
        folder: of the run.
        network: whose state is written, in float32 with the names of the published checkpoints.
        step: steps that it was trained for.
        numbers: scores on held-out rows.
        settings: the config as TOML.
        facts: what else to know: data, software, weights of the losses; values that JSON can hold.

    Raises:
        OSError: they cannot be written; the earlier ones are still there.
    """
    state = {name: value.detach().float().cpu().contiguous() for name, value in network.state_dict().items()}
    counters = {name: value for name, value in network.state_dict().items() if value.dtype == torch.long}
    state |= {name: value.cpu() for name, value in counters.items()}
    write_atomically(folder / product.weights, lambda path: path.write_bytes(save(state, {"step": str(step)})))
    card = _card(product, step, numbers, settings, facts)
    write_atomically(folder / CARD, lambda path: path.write_text(card))


def _card(product: Product, step: int, numbers: Mapping[str, float], settings: str, facts: Mapping[str, object]) -> str:
    scores = "".join(f"| {name} | {value:.4f} |\n" for name, value in numbers.items())
    return f"""\
---
library_name: cfr
{product.tags}
---

# {product.title}

{product.about.format(step=step)}

The licence of these weights follows from the photographs that they were trained on: fill it in before you pass them on.

## Held-out rows

{"| score | |" if scores else "None were held out."}
{"|---|---|" if scores else ""}
{scores}
{product.scores}

## Data and software

```json
{json.dumps(facts, indent=1, ensure_ascii=False)}
```

## Settings

```toml
{settings}```
"""
