"""The paper's networks with the state-dict keys of the published checkpoints; `cfr.model.checkpoints` fills them."""
