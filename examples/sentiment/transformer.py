"""A small transformer encoder (Vaswani et al. 2017, arXiv:1706.03762; norms first) that tells happy sentences from unhappy ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def make(
    words: int = 3000, width: int = 64, heads: int = 4, blocks: int = 2, length: int = 40, classes: int = 2
) -> nn.Module:
    """The untrained network: (N, length) token ids → (N, classes) scores. `transformer.toml` names this function."""
    return Encoder(words, width, heads, blocks, length, classes)


class Encoder(nn.Module):
    """Words and their places, blocks of attention, the mean over the words of the sentence, linear."""

    def __init__(self, words: int, width: int, heads: int, blocks: int, length: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, length, width))
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        is_word = (tokens > 0).to(torch.float32)
        ignored = ((is_word - 1) * 1e4).unsqueeze(1).unsqueeze(1)  # added to the padding's attention
        features = self.dropout(self.embedding(tokens) + self.places)
        for block in self.blocks:
            features = block(features, ignored)
        words = self.norm(features) * is_word.unsqueeze(2)
        mean = words.sum(1) / is_word.sum(1, keepdim=True).clamp(min=1)
        scores: torch.Tensor = self.classifier(self.dropout(mean))
        return scores


class Block(nn.Module):
    """Attention among the words, then two linear layers on each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys, self.values = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.joined = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.3)

    def forward(self, features: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        """Features of the same shape, (N, length, width)."""
        words = self.first_norm(features)
        queries, keys, values = (self._by_head(layer(words)) for layer in (self.queries, self.keys, self.values))
        scale = (features.shape[2] // self.heads) ** -0.5
        attention = torch.softmax(queries @ keys.transpose(2, 3) * scale + ignored, dim=-1)
        seen = (attention @ values).transpose(1, 2).flatten(2)
        features = features + self.dropout(self.joined(seen))
        inner = functional.gelu(self.wide(self.second_norm(features)))
        return features + self.dropout(self.narrow(inner))

    def _by_head(self, features: torch.Tensor) -> torch.Tensor:
        return features.unflatten(2, (self.heads, -1)).transpose(1, 2)
