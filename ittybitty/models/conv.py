"""Mamba's causal depthwise convolution with bias and SiLU: one plain truth, and fast paths that are held to it.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752: section 3.4 and figure 3.

    y_t = silu(bias + Σ_k w_k u_{t - K + 1 + k})          (B, E); u before the first token is `past`

    plain    K shifted multiply-adds in PyTorch, which is faster on a CPU than conv1d itself
    native   C++ for the CPU (native/conv.cpp)
    triton   our kernels for a GPU (triton_conv.py)

The path follows that of the scan (scan.py): `native` where that is native, `triton` where that is triton or mamba_ssm, else
`plain`. ITTYBITTY_CONV forces one.
"""

from __future__ import annotations

import os

import torch
from torch.nn import functional as F

from ..errors import ConfigError
from . import native, scan

VARIABLE = "ITTYBITTY_CONV"
PATHS = ("plain", "native", "triton")


def causal_convolution(u, past, weight, bias, path: str | None = None) -> torch.Tensor:
    """silu(causal depthwise convolution) of u (B, L, E): past (B, K - 1, E) or None for zeros, weight (E, K), bias (E,).

    Under autocast u is in half precision and the weights are float32: `triton` returns the type of u, the others float32.
    """
    path = path or chosen(u.device.type)
    if path == "triton":
        from . import triton_conv

        return triton_conv.Convolution.apply(u, past, weight, bias)
    if path == "native":
        u = u.to(weight.dtype)  # C++ takes arrays of one type only
    K, L = weight.shape[1], u.shape[1]
    past = u.new_zeros(u.shape[0], K - 1, u.shape[2]) if past is None else past.to(u.dtype)
    if path == "native" and native.accepts(u, past, weight, bias):
        return native.Convolution.apply(u, past, weight, bias)
    padded = torch.cat([past, u], dim=1)  # (B, K - 1 + L, E)
    out = torch.addcmul(bias, padded[:, :L], weight[:, 0])
    for k in range(1, K):
        out = torch.addcmul(out, padded[:, k : k + L], weight[:, k])
    return F.silu(out)


def chosen(device: str = "cpu") -> str:
    """The path taken on this kind of device; ConfigError where one is forced that cannot run there."""
    forced = os.environ.get(VARIABLE, "")
    if forced and forced not in PATHS:
        raise ConfigError(f"{VARIABLE} is {forced!r}: give one of {', '.join(PATHS)}, or leave it unset")
    if forced:
        if obstacle := "" if forced == "plain" else scan.obstacle(forced, device):
            raise ConfigError(f"{VARIABLE} forces {forced!r}, but {obstacle}; leave it unset, or force 'plain'")
        return forced
    of_scan = scan.chosen(device)
    if of_scan == "mamba_ssm":
        return "plain" if scan.obstacle("triton", device) else "triton"
    return of_scan if of_scan in PATHS else "plain"


def available(device: str) -> list[str]:
    """The fast paths that run on this kind of device."""
    return [path for path in ("native", "triton") if not scan.obstacle(path, device)]
