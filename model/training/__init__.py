"""Training: shards in place, exact resume, one process or many; `gan_training` is what `cfr train` runs."""
