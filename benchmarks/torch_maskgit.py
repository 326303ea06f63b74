"""MaskGit in PyTorch, for comparison: as fast as plain PyTorch allows.

Fused query, key and value; `scaled_dot_product_attention`; not a copy of the
official code. Parameters come from ours, so that both compute the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import nn

_HEADS = ('query', 'key', 'value')


class Block(nn.Module):
  """Pre-norm transformer block on [B, L, D]."""

  def __init__(self, width: int, heads: int, mlp: int, dropout: float) -> None:
    super().__init__()
    self.heads, self.dropout = heads, dropout
    self.attention_norm = nn.LayerNorm(width)
    self.qkv = nn.Linear(width, 3 * width)
    self.out = nn.Linear(width, width)
    self.mlp_norm = nn.LayerNorm(width)
    self.mlp_in = nn.Linear(width, mlp)
    self.mlp_out = nn.Linear(mlp, width)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    dropout = self.dropout if self.training else 0.0
    qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    x = x + self.out(mixed.transpose(1, 2).flatten(2))
    hidden = F.gelu(self.mlp_in(self.mlp_norm(x)))
    if dropout:
      hidden = F.dropout(hidden, dropout)
    hidden = self.mlp_out(hidden)
    return x + (F.dropout(hidden, dropout) if dropout else hidden)


class MaskGit(nn.Module):
  """Embeddings [B, L, D] and labels [B] -> logits [B, L, V + 1].

  Parameters that distillation does not train need no gradient.
  """

  def __init__(self, options: ConfigDict) -> None:
    super().__init__()
    width, self.length = options.width, options.length
    self.vocab_size = options.vocab_size
    rows = options.vocab_size + 1 + options.num_classes + 1
    frozen = lambda *shape: nn.Parameter(torch.empty(shape), False)
    self.tok_emb = frozen(rows, width)
    self.pos_emb = frozen(self.length + 1, width)
    self.logit_bias = frozen(self.length + 1, rows)
    norm = lambda: nn.LayerNorm(width, eps=1e-12)
    drop = lambda: nn.Dropout(options.dropout)
    dense = lambda: nn.Linear(width, width)
    self.first = nn.Sequential(
      norm(), drop(), dense(), nn.GELU(), norm(), drop(), dense()
    )
    self.blocks = nn.Sequential(
      *(
        Block(width, options.num_heads, options.mlp_width, options.dropout)
        for _ in range(options.depth)
      )
    )
    self.last = nn.Sequential(norm(), drop(), dense(), nn.GELU(), norm())

  def embed(self, tokens: torch.Tensor) -> torch.Tensor:
    """Table rows of int tokens [B, L] -> [B, L, D]."""
    return F.embedding(tokens, self.tok_emb)

  def forward(
    self, embeddings: torch.Tensor, labels: torch.Tensor
  ) -> torch.Tensor:
    classes = self.embed(self.vocab_size + 1 + labels)[:, None]
    x = torch.cat([embeddings, classes], 1) + self.pos_emb
    x = self.last(self.blocks(self.first(x)))[:, : self.length]
    codes = self.vocab_size + 1
    logits = x @ self.tok_emb[:codes].T
    return logits + self.logit_bias[: self.length, :codes]

  @torch.no_grad()
  def load(self, params: Mapping[str, Any]) -> None:
    """Copies parameters of our `MaskGitTransformer`."""
    for parameter, array in self._pairs(params):
      parameter.copy_(torch.from_numpy(np.array(array)))

  def distance(self, params: Mapping[str, Any]) -> float:
    """Largest difference from parameters of our generator."""
    return max(
      float(
        (parameter.detach() - torch.from_numpy(np.array(array))).abs().max()
      )
      for parameter, array in self._pairs(params)
    )

  def _pairs(
    self, params: Mapping[str, Any]
  ) -> Iterator[tuple[nn.Parameter, np.ndarray]]:
    for name in ('tok_emb', 'pos_emb', 'logit_bias'):
      yield getattr(self, name), params[name]
    yield from _norm(self.first[0], params['first_norm_0'])
    yield from _linear(self.first[2], params['first_dense_0'])
    yield from _norm(self.first[4], params['first_norm_1'])
    yield from _linear(self.first[6], params['first_dense_1'])
    for i, block in enumerate(self.blocks):
      yield from _block(block, _layer(params['layers'], i))
    yield from _norm(self.last[0], params['last_norm_0'])
    yield from _linear(self.last[2], params['last_dense'])
    yield from _norm(self.last[4], params['last_norm_1'])


def _layer(stacked: Mapping[str, Any], index: int) -> dict[str, Any]:
  """Parameters of one of the layers stacked on axis 0."""
  return {
    name: _layer(leaf, index) if isinstance(leaf, Mapping) else leaf[index]
    for name, leaf in stacked.items()
  }


def _norm(module: nn.LayerNorm, params: Mapping[str, Any]) -> Iterator[Any]:
  yield module.weight, params['scale']
  yield module.bias, params['bias']


def _linear(module: nn.Linear, params: Mapping[str, Any]) -> Iterator[Any]:
  yield module.weight, np.asarray(params['kernel']).T
  yield module.bias, params['bias']


def _block(block: Block, params: Mapping[str, Any]) -> Iterator[Any]:
  attention = params['attention']
  stacked = {
    name: np.concatenate([attention[head][name] for head in _HEADS], -1)
    for name in ('kernel', 'bias')
  }
  yield from _norm(block.attention_norm, params['attention_norm'])
  yield from _linear(block.qkv, stacked)
  yield from _linear(block.out, attention['out'])
  yield from _norm(block.mlp_norm, params['mlp_norm'])
  yield from _linear(block.mlp_in, params['mlp_in'])
  yield from _linear(block.mlp_out, params['mlp_out'])
