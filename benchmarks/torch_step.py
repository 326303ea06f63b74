"""The Di[M]O step in PyTorch, pass by pass as the official trainer does it.

The student forward and backward; the teacher's guided pair; the auxiliary
forward; then a fresh sample of the updated student without gradients, and the
auxiliary forward and backward on it: ten passes, with a backward pass counted
twice. Written for speed: nothing is logged, no graph is kept where no gradient
is needed, Adam is fused.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from ml_collections import ConfigDict

from benchmarks.sizes import Size
from benchmarks.torch_maskgit import MaskGit


class TorchStep:
  """Three networks, two optimisers and a moving average."""

  def __init__(
    self,
    size: Size,
    params: Mapping[str, Any],
    *,
    auxiliary: Mapping[str, Any] | None = None,
    compiled: bool = False,
  ) -> None:
    """Builds the networks.

    Args:
      size: of MaskGit; the order of passes is always the official one.
      params: of our generator, for all three networks.
      auxiliary: parameters of the auxiliary, if they differ.
      compiled: whether to use `torch.compile`.
    """
    self.config, self.generator = size.distillation, size.model.generator
    config, generator = self.config, self.generator
    self.teacher = MaskGit(generator)
    self.teacher.load(params)
    self.student = copy.deepcopy(self.teacher).train(config.dropout)
    self.auxiliary = copy.deepcopy(self.teacher).train(config.dropout)
    if auxiliary is not None:
      self.auxiliary.load(auxiliary)
    self.teacher.eval().requires_grad_(False)
    self.trained, self.auxiliary_trained = (
      [p for p in net.parameters() if p.requires_grad]
      for net in (self.student, self.auxiliary)
    )
    self.average = [p.detach().clone() for p in self.trained]
    self.optimizer = _adam(self.trained, config.optimizer)
    self.auxiliary_optimizer = _adam(
      self.auxiliary_trained, config.auxiliary.optimizer
    )
    self.count = 0
    self.gradient = _logit_gradient
    self.loss = _masked_cross_entropy
    if compiled:
      for net in (self.student, self.auxiliary, self.teacher):
        net.compile()
      self.gradient = torch.compile(_logit_gradient)
      self.loss = torch.compile(_masked_cross_entropy)

  def __call__(self) -> dict[str, float]:
    """One update of both networks; returns the values for the check."""
    labels = self._labels()
    logits = self.student(self._start(), labels)
    _, mask, masked = self._sample(logits.detach())
    with torch.no_grad():
      auxiliary = self.auxiliary(self.teacher.embed(masked), labels)
      gradient = self.gradient(self._guided(masked, labels), auxiliary, mask)
      gradient /= len(logits)
      # 0.5 |g|^2 / B, where `gradient` is g / B.
      loss = 0.5 * len(logits) * gradient.square().sum()
    logits.backward(gradient)
    clip = self.config.optimizer.clip_norm or math.inf
    norm = torch.nn.utils.clip_grad_norm_(self.trained, clip)
    self.optimizer.step()
    self.optimizer.zero_grad()
    rate = min(self.config.ema_decay, (1 + self.count) / (10 + self.count))
    torch._foreach_lerp_(self.average, self.trained, 1 - rate)
    cross_entropy = self._update_auxiliary()
    self.count += 1
    return {
      'dimo/loss': float(loss),
      'generator/gradient_norm': float(norm),
      'auxiliary/cross_entropy': float(cross_entropy),
    }

  def _update_auxiliary(self) -> torch.Tensor:
    labels = self._labels()
    with torch.no_grad():
      tokens, mask, masked = self._sample(self.student(self._start(), labels))
      embeddings = self.teacher.embed(masked)
    loss = self.loss(
      self.auxiliary(embeddings, labels),
      tokens,
      mask,
      self.config.auxiliary.label_smoothing,
    )
    loss.backward()
    self.auxiliary_optimizer.step()
    self.auxiliary_optimizer.zero_grad()
    return loss.detach()

  def _guided(self, masked: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits of the teacher's guided pair, one batch of 2 B."""
    embeddings, scale = self.teacher.embed(masked), self.config.guidance_scale
    if scale == 1:
      return self.teacher(embeddings, labels)
    null = torch.full_like(labels, self.generator.num_classes)
    pair = self.teacher(embeddings.repeat(2, 1, 1), torch.cat([labels, null]))
    conditional, unconditional = pair.chunk(2)
    return unconditional + scale * (conditional - unconditional)

  # Draws.

  def _labels(self) -> torch.Tensor:
    return torch.randint(self.generator.num_classes, (self.config.batch_size,))

  @torch.no_grad()
  def _start(self) -> torch.Tensor:
    """Embeddings of a fresh x_init, perturbed: [B, L, D]."""
    shape = self.config.batch_size, self.generator.length
    tokens = torch.randint(self.generator.vocab_size, shape)
    rate = torch.full(shape[:1], self.config.init.mask_ratio)
    tokens[_exact_mask(rate, shape[1])] = self.generator.vocab_size
    embeddings = self.teacher.embed(tokens)
    scale = self.config.init.noise_scale
    noise = torch.randn_like(embeddings)
    return math.sqrt(1 - scale**2) * embeddings + scale * noise

  def _sample(
    self, logits: torch.Tensor
  ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, mask, masked tokens), each [B, L]; the mask is not drawn."""
    logits = logits[..., : self.generator.vocab_size]
    if self.config.temperature == 0:
      tokens = logits.argmax(-1)
    else:
      p = (logits / self.config.temperature).softmax(-1)
      tokens = p.flatten(0, 1).multinomial(1).view(p.shape[:2])
    limits = self.config.mask
    rate = torch.arccos(torch.rand(len(logits))) / (math.pi / 2)
    mask = _exact_mask(rate.clamp(limits.low, limits.high), tokens.shape[1])
    return tokens, mask, tokens.masked_fill(mask, self.generator.vocab_size)


def _adam(parameters: list[torch.Tensor], options: ConfigDict) -> Any:
  return torch.optim.Adam(
    parameters,
    options.learning_rate,
    (options.b1, options.b2),
    options.eps,
    fused=True,
  )


def _exact_mask(rate: torch.Tensor, length: int) -> torch.Tensor:
  """bool [B, L] with round(rate L) entries, at least one, in every row."""
  count = (rate * length).round().clamp(min=1)
  ranks = torch.rand(len(rate), length).argsort(-1).argsort(-1)
  return ranks < count[:, None]


def _logit_gradient(
  teacher: torch.Tensor, auxiliary: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
  """Gradient of the forward divergence where the input was masked."""
  difference = auxiliary.softmax(-1) - teacher.softmax(-1)
  return difference * mask[..., None]


def _masked_cross_entropy(
  logits: torch.Tensor,
  tokens: torch.Tensor,
  mask: torch.Tensor,
  smoothing: float,
) -> torch.Tensor:
  """Mean over the masked entries of the batch."""
  losses = F.cross_entropy(
    logits.flatten(0, 1),
    tokens.flatten(),
    label_smoothing=smoothing,
    reduction='none',
  )
  weight = mask.flatten().to(losses.dtype)
  return (losses * weight).sum() / weight.sum()
