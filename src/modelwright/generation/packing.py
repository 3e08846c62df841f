"""Weights in the order in which a processor reads them, for products with few rows.

A step of writing multiplies each matrix with one row a text, so that it takes as long as reading
the matrix does. The library behind PyTorch's products on processors reads a matrix that it has put
in an order of its own about twice as fast (`benchmarks/generate.py`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modelwright.model.linear import Linear
from modelwright.model.transformer import Transformer

packed_dtypes = (torch.float32, torch.bfloat16)
# Reading a smaller matrix takes less time than waking the threads that share a packed one.
least_packed_bytes = 2**20


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is such an order for products in a dtype on a device."""
    if (
        device.type != "cpu"
        or dtype not in packed_dtypes
        or not torch.backends.mkldnn.is_available()
    ):
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack(model: Transformer, n_rows: int) -> None:
    """Exchange the larger matrices of a model's linear layers for packed copies, in place.

    The token embedding stays as it is, also where the way back to the vocabulary shares it.

    Args:
        n_rows: how many rows a product usually has; others are right too.
    """
    for layer in model.modules():
        if isinstance(layer, Linear) and layer.weight.nbytes >= least_packed_bytes:
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), n_rows)
            layer.weight = nn.Parameter(packed, requires_grad=False)
            layer.multiply = packed_product


def packed_product(
    x: Float[Tensor, "*axes d_in"], weight: Tensor, bias: Float[Tensor, " d_out"] | None
) -> Float[Tensor, "*axes d_out"]:
    """x Wᵀ + b with a packed weight; `linear.plain_product` is the same with a plain one."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
