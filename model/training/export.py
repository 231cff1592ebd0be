"""What a training is for: the generator's file, and the card that says how it was made."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from cfr.model.training.files import write_atomically

WEIGHTS, CARD = "generator.safetensors", "model_card.md"


def export_generator(
    folder: Path,
    generator: nn.Module,
    step: int,
    numbers: Mapping[str, float],
    settings: str,
    facts: Mapping[str, object],
) -> None:
    """Write `generator.safetensors` and `model_card.md`.

    Args:
        folder: of the run.
        generator: whose state is written, in float32 with the names of the published checkpoints.
        step: steps that it was trained for.
        numbers: scores on held-out rows.
        settings: the config as TOML.
        facts: what else to know: data, software, weights of the losses; values that JSON can hold.

    Raises:
        OSError: they cannot be written; the earlier ones are still there.
    """
    state = {name: value.detach().float().cpu().contiguous() for name, value in generator.state_dict().items()}
    counters = {name: value for name, value in generator.state_dict().items() if value.dtype == torch.long}
    state |= {name: value.cpu() for name, value in counters.items()}
    write_atomically(folder / WEIGHTS, lambda path: path.write_bytes(save(state, {"step": str(step)})))
    card = _card(step, numbers, settings, facts)
    write_atomically(folder / CARD, lambda path: path.write_text(card))


def _card(step: int, numbers: Mapping[str, float], settings: str, facts: Mapping[str, object]) -> str:
    scores = "".join(f"| {name} | {value:.4f} |\n" for name, value in numbers.items())
    return f"""\
---
library_name: cfr
pipeline_tag: image-to-image
tags: [face-frontalization, de-occlusion, cfr-gan]
---

# CFRNet generator

Completes a rotated, damaged face with the help of a rendering of its face model. Exponential moving average of the
weights after {step} steps. Use: `cfr frontalize --generator {WEIGHTS}`.

The licence of these weights follows from the photographs that they were trained on: fill it in before you pass them on.

## Held-out pairs

{"| score | |" if scores else "None were held out."}
{"|---|---|" if scores else ""}
{scores}
`inside`: where the pair's occlusion mask is; `outside`: the rest of the face. `paste`: the guidance inside, `rotated`
outside. PSNR in dB.

## Data and software

```json
{json.dumps(facts, indent=1, ensure_ascii=False)}
```

## Settings

```toml
{settings}```
"""
