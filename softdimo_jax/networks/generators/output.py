"""What every generator's backbone returns."""

import flax.struct
import jax


@flax.struct.dataclass
class GeneratorOutput:
  """Logits and hidden states of one forward pass.

  Attributes:
    logits: float32 [B, L, G, C], C >= V logits (MaskGit has one for the mask):
      what the generator's `logits` makes of `last`. Under jit they cost nothing
      where nobody reads them.
    last: [B, L, D], what the logits are read off.
    hidden: [depth, B, L, D], output of every block at the image positions;
      the discriminator's heads read some of them. Meissonic's blocks see a
      quarter of the positions where it samples them down.
  """

  logits: jax.Array
  last: jax.Array
  hidden: jax.Array
