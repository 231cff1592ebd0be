"""The geometry of CFR-GAN (Ju et al., WACV 2022) as its authors' code computes it, to the bit where that matters.

The rest of `cfr.model` solves the same tasks better; this sub-package is for those who have the authors' files and want
the authors' results. Pictures are (B,3,224,224) float32 in 0..1 and RGB, except where a name says BGR.
"""
