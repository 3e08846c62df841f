"""Who takes part in `train_gpu.py`: our step, a GPT-2 in plain PyTorch, and Hugging Face's.

- ours: `RealStep`, which is the trainer's own step.
- plain: in the manner of nanoGPT: fp32 weights under `torch.autocast`, so the residual stream is
  fp32; cross-entropy of all logits at once, which are a result beside the loss; all compiled as
  one; the loss is rarely read.
- lean: the same without the logits as a result, so that the compiler need not keep them.
- hf: `GPT2LMHeadModel` in the same loop.

All begin with the same weights and learn from one batch, which is on the device already.
"""

import gc
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modelwright.model.config import ModelConfig
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer
from modelwright.planning.measuring import RealStep
from modelwright.planning.step import Site
from modelwright.training.config import RunConfig

LEARNING_RATE = 1e-4  # that of RealStep
N_CHECKED = 2  # sequences

# Ours and those of Hugging Face; the plain model has ours.
outer_names = {"embedding": "wte", "positions": "wpe", "norm": "ln_f"}
inner_names = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}

Ids = tuple[Tensor, Tensor]  # inputs and targets


class Ours:
    """The project's own step."""

    def __init__(self, config: RunConfig, site: Site) -> None:
        self.step = RealStep(config, config.model, site)
        fill(self.step.model)
        self.batch = batch_of(config, site)
        self.step.batch.inputs.copy_(self.batch[0])
        self.step.batch.targets.copy_(self.batch[1])
        self.telling = telling(self.step.model, self.batch)

    def seconds_of(self, n_steps: int) -> float:
        """Take steps; without `take_many`, each is waited for."""
        synchronise()
        take_many: Callable[[int], float] | None = getattr(self.step, "take_many", None)
        if take_many is not None:
            return take_many(n_steps)
        return sum(self.step.take() for _ in range(n_steps))

    @torch.no_grad()
    def loss(self, batch: Ids) -> float:
        """Of the first sequences with the present weights, by operations that are not compiled."""
        inputs, targets = (ids[:N_CHECKED] for ids in batch)
        scale = 1 / targets.numel()
        with torch.compiler.set_stance("force_eager"):
            return next_token_loss(self.step.model, inputs, targets, scale=scale).item()


class Peer:
    """A model under autocast with PyTorch's optimizer and clipping."""

    def __init__(self, name: str, config: RunConfig, site: Site) -> None:
        self.autocast = torch.autocast(site.device, torch.bfloat16)
        self.model = make_peer(name, config.model, site)
        self.batch = batch_of(config, site)
        ours = Transformer(config.model, dtype=site.dtype, attention=site.attention)
        fill(ours.to(site.device))
        copy_weights(ours, self.model)
        self.telling = telling(ours, self.batch)
        del ours
        self.program = torch.compile(self.model, dynamic=False) if site.is_compiled else self.model
        rule, parameters = config.optimizer, list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": rule.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=LEARNING_RATE, betas=(rule.beta1, rule.beta2), eps=rule.epsilon, fused=True
        )
        self.clip_norm = rule.clip_norm
        free_memory()

    def seconds_of(self, n_steps: int) -> float:
        """Take steps without waiting for any but the last."""
        synchronise()
        began = time.perf_counter()
        loss = torch.zeros(())
        for _ in range(n_steps):
            with self.autocast:
                loss = loss_in(self.program(*self.batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        loss.item()
        synchronise()
        return time.perf_counter() - began

    @torch.no_grad()
    def loss(self, batch: Ids) -> float:
        """As that of ours."""
        with self.autocast:
            return loss_in(self.model(*(ids[:N_CHECKED] for ids in batch))).item()


def loss_in(result: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """What a peer learns from; some give their logits with it."""
    return result[1] if isinstance(result, tuple) else result


class PlainAttention(nn.Module):
    """All heads in one product, then PyTorch's own choice of kernel."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (
            part.unflatten(2, (self.n_heads, -1)).transpose(1, 2)
            for part in self.qkv(x).split(x.shape[2], dim=2)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(x.shape))


class PlainBlock(nn.Module):
    """Attention and an MLP, each behind a norm."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = PlainAttention(d_model, n_heads)
        up, down = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)
        self.mlp = nn.Sequential(OrderedDict(up=up, gelu=nn.GELU("tanh"), down=down))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class PlainGPT2(nn.Module):
    """GPT-2 with the loss inside, so that one program holds it all."""

    def __init__(self, shape: ModelConfig, *, gives_logits: bool) -> None:
        super().__init__()
        self.gives_logits = gives_logits
        width = shape.d_model
        self.embedding = nn.Embedding(shape.padded_vocab, width)
        self.positions = nn.Embedding(shape.context, width)
        self.blocks = nn.ModuleList(PlainBlock(width, shape.n_heads) for _ in range(shape.n_layers))
        self.norm = nn.LayerNorm(width)
        self.unembedding = nn.Linear(width, shape.padded_vocab, bias=False)
        self.unembedding.weight = self.embedding.weight

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.embedding(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = self.unembedding(self.norm(x))
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return (logits, loss) if self.gives_logits else loss


class HuggingFaceGPT2(nn.Module):
    """Their model as it comes, but without dropout and cache, and with the same inputs."""

    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        sizes: Any = {"n_embd": shape.d_model, "n_layer": shape.n_layers, "n_head": shape.n_heads}
        sizes |= {"vocab_size": shape.padded_vocab, "n_positions": shape.context}
        off: Any = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        off |= {"use_cache": False, "bos_token_id": None, "eos_token_id": None}
        self.inner = GPT2LMHeadModel(GPT2Config(**sizes, **off)).train()
        assert self.inner.config._attn_implementation == "sdpa"

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        # They shift the labels themselves, so the last position goes without a target.
        return self.inner(input_ids=ids, labels=targets.roll(1, 1)).loss


def make_peer(name: str, shape: ModelConfig, site: Site) -> nn.Module:
    """A model of that shape."""
    with torch.device(site.device):
        if name == "hf":
            return HuggingFaceGPT2(shape)
        return PlainGPT2(shape, gives_logits=name == "plain")


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Give a model weights, in place; norms and biases take part too, so that a check sees them."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(1)
    for name, parameter in model.named_parameters():
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        parameter.normal_(float(is_scale), 0.02, generator=generator)


@torch.no_grad()
def copy_weights(ours: nn.Module, peer: nn.Module) -> None:
    """Give a peer our weights; Hugging Face's matrices are the other way around."""
    theirs = dict(peer.named_parameters())
    for path, weight in ours.named_parameters():
        owner, _, kind = path.rpartition(".")
        if isinstance(peer, PlainGPT2):
            theirs.pop(path).copy_(weight)
        elif owner in outer_names:
            theirs.pop(f"inner.transformer.{outer_names[owner]}.{kind}").copy_(weight)
        else:
            _, layer, part = owner.split(".", 2)
            name = f"inner.transformer.h.{layer}.{inner_names[part]}.{kind}"
            theirs.pop(name).copy_(weight.t())
    assert not theirs


def batch_of(config: RunConfig, site: Site) -> Ids:
    """What a step learns from."""
    size = (2, config.batch_size, config.model.context)
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randint(config.model.known_vocab, size, generator=generator)
    return inputs.to(site.device), targets.to(site.device)


@torch.no_grad()
def telling(ours: Transformer, batch: Ids) -> Ids:
    """First sequences with what ours holds most likely: random targets surprise any model alike."""
    inputs = batch[0][:N_CHECKED]
    with torch.compiler.set_stance("force_eager"):
        return inputs, ours(inputs).argmax(-1)


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def free_memory() -> None:
    """Give back what nothing refers to."""
    gc.collect()
    torch.cuda.empty_cache()
