"""One-step discrete image generation: Di[M]O and Soft-Di[M]O in JAX.

Shape legend, used in every `# [B, L, G, V]` comment of the project:

  B  batch
  L  token positions per image (row-major over the grid h x w)
  G  groups (sub-tokens) per position: 1 for MaskGit, the splits of MaskBit
  V  codes per group; id V is the mask. C is the number of logits, C >= V:
     MaskGit has a logit for the mask too
  D  embedding width
  H W C  pixels; images are float32 in [0, 1] unless noted otherwise
"""

import sys

__version__ = '0.2.0'

if sys.platform == 'win32':  # Before anything that Windows does not have.
  print(
    'error: softdimo_jax runs on Linux or macOS; on Windows, use WSL',
    file=sys.stderr,
  )
  sys.exit(2)
