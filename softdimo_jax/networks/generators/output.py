"""What every generator's backbone returns."""

import flax.struct
import jax


@flax.struct.dataclass
class GeneratorOutput:
  """Logits and hidden states of one forward pass.

  Attributes:
    logits: float32 [B, L, G, C], C >= V logits (MaskGit has one for the mask).
    hidden: [depth, B, L, D], output of every block at the image positions;
      the discriminator's heads read some of them. Meissonic's blocks see a
      quarter of the positions where it samples them down.
  """

  logits: jax.Array
  hidden: jax.Array
