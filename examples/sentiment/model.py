"""A convolutional network that tells happy sentences from unhappy ones (Kim 2014, arXiv:1408.5882), built of what int8 kernels compute well."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (3, 4, 5)  # words that a filter sees at once


def make(words: int = 3000, dimensions: int = 64, filters: int = 32, length: int = 40, classes: int = 2) -> nn.Module:
    """The untrained network: (N, length) token ids → (N, classes) scores. The recipes name this function."""
    return TextCnn(words, dimensions, filters, length, classes)


class TextCnn(nn.Module):
    """Embedding, convolutions of several widths over the words, the largest answer of each filter, linear."""

    def __init__(self, words: int, dimensions: int, filters: int, length: int, classes: int) -> None:
        super().__init__()
        self.length = length
        self.embedding = nn.Embedding(words, dimensions)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.convolutions = nn.ModuleList(nn.Conv2d(dimensions, filters, (1, width)) for width in WIDTHS)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(filters * len(WIDTHS), classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        # A sentence is an image of one row, its words are the columns: every runtime has fast kernels for that.
        words = self.embedding(tokens).permute(0, 2, 1).unsqueeze(2)
        found = []
        for width, convolution in zip(WIDTHS, self.convolutions, strict=True):
            features = functional.relu(convolution(words))
            found.append(functional.max_pool2d(features, (1, self.length - width + 1)).flatten(1))
        scores: torch.Tensor = self.classifier(self.dropout(torch.cat(found, dim=1)))
        return scores
