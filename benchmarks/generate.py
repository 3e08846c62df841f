"""Writing with GPT-2 small: ours beside Hugging Face's, with the same random weights.

    python benchmarks/generate.py                  # this processor, two threads
    python benchmarks/generate.py --device cuda

Each continues random prompts greedily, with a cache of keys and values, both of them called as a
person would: `Engine` and `GPT2LMHeadModel.generate`. They take turns, and the medians are printed.
The floor is the least time a step can take: every weight read once, and the kept keys and values of
each text, at the bandwidth that is measured here.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from modelwright.runtime.threads import wait_politely

wait_politely()

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from modelwright.generation.config import SamplingConfig  # noqa: E402
from modelwright.generation.engine import Engine  # noqa: E402
from modelwright.generation.requests import Request  # noqa: E402
from modelwright.model.config import ModelConfig  # noqa: E402
from modelwright.model.initialise import initialise  # noqa: E402
from modelwright.model.presets import presets  # noqa: E402
from modelwright.model.transformer import Transformer  # noqa: E402
from modelwright.runtime.device import describe_machine  # noqa: E402

n_prompt, n_new = 16, 128
greedy = SamplingConfig(temperature=0)


def theirs_with_weights_of(model: Transformer) -> Any:
    """Hugging Face's model of the same shape around copies of the same weights, in fp32."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = model.config
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=shape.known_vocab,
            n_positions=shape.context,
            n_embd=shape.d_model,
            n_layer=shape.n_layers,
            n_head=shape.n_heads,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    ours = dict(model.named_parameters())
    names = {
        "attn.c_attn": "attention.qkv",
        "attn.c_proj": "attention.output",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
        "ln_1": "attention_norm",
        "ln_2": "mlp_norm",
    }
    with torch.no_grad():
        for name, parameter in theirs.transformer.named_parameters():
            if name.startswith("h."):
                _, layer, rest = name.split(".", 2)
                part, kind = rest.rsplit(".", 1)
                value = ours[f"blocks.{layer}.{names[part]}.{kind}"]
                is_turned = "ln" not in part and kind == "weight"
                parameter.copy_(value.T if is_turned else value)
            else:
                own = {"wte": "embedding", "wpe": "positions", "ln_f": "norm"}
                first, kind = name.split(".")
                parameter.copy_(ours[f"{own[first]}.{kind}"])
    return theirs.eval()


def bandwidth(device: torch.device) -> float:
    """Bytes a second at which this machine reads a long array of ones."""
    # On a GPU so many that asking for the sum takes no part of the time.
    numbers = torch.ones(2**30 if device.type == "cuda" else 2**27, device=device)
    return numbers.nbytes / median_seconds(lambda: numbers.sum().item(), n=7)


def median_seconds(call: Callable[[], object], n: int) -> float:
    """The median time of a call, after one to warm up."""
    call()
    return statistics.median(seconds_of(call) for _ in range(n))


def seconds_of(call: Callable[[], object]) -> float:
    """The time of one call, whose end waits for the device."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def floor_seconds(
    model: Transformer, n_texts: int, n_tokens: int, dtype: torch.dtype, rate: float
) -> float:
    """The least time of a step when texts have that many tokens: the bytes that it must read."""
    config = model.config
    n_weights = sum(parameter.numel() for parameter in model.parameters())
    n_kept = 2 * config.n_layers * config.key_heads * config.head_width * n_tokens
    return (n_weights + n_texts * n_kept) * dtype.itemsize / rate


class Ours:
    """The engine, made once; requests ignore the end of text so that all are equally long."""

    def __init__(self, model: Transformer, tokenizer: Any, prompts: list[str]) -> None:
        self.engine = Engine(model, tokenizer, n_slots=len(prompts), n_tokens=n_prompt + n_new)
        self.prompts = prompts
        self.ids: list[list[int]] = []

    def __call__(self) -> None:
        handles = [
            self.engine.submit(
                Request(prompt=prompt, max_tokens=n_new, sampling=greedy, ignore_end=True)
            )
            for prompt in self.prompts
        ]
        self.engine.run()
        self.ids = [handle.ids for handle in handles]


class Theirs:
    """`generate` of transformers, on the same ids."""

    def __init__(self, model: Any, ids: torch.Tensor) -> None:
        self.model, self.start = model, ids
        self.ids: list[list[int]] = []

    def __call__(self) -> None:
        written = self.model.generate(
            self.start,
            attention_mask=torch.ones_like(self.start),
            max_new_tokens=n_new,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
        self.ids = written.tolist()


class Numbers:
    """Stands in for a tokenizer: a token's text is its number, so that any ids can be a prompt."""

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        self.end_of_text = n_vocab - 1

    def encode(self, text: str) -> Any:
        return torch.tensor([int(number) for number in text.split()])

    def streaming_decoder(self) -> Any:
        return self

    def feed(self, token: int) -> str:
        return f" {token}"

    def finish(self) -> str:
        return ""


def prompts_of(tokenizer: Numbers, n: int) -> list[str]:
    """Random tokens; the engine puts an end-of-text before them."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(tokenizer.n_vocab - 1, (n, n_prompt - 1), generator=generator)
    return [" ".join(map(str, row)) for row in ids.tolist()]


def recomputed(model: Transformer, ids: torch.Tensor, n: int) -> None:
    """What writing costs without a cache: each token computes all before it again."""
    with torch.inference_mode():
        for _ in range(n):
            hidden = model.hidden(ids)[:, -1]
            token = model.logits(hidden).argmax(-1)
            ids = torch.cat((ids, token[:, None]), dim=1)


def main() -> None:
    """Measure batches of one and eight in fp32 and bf16 and print a table."""
    parser = argparse.ArgumentParser(description="Writing, measured.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    shape: dict[str, Any] = {**presets["gpt2-small"], "vocab_size": 50257}
    config = ModelConfig(**shape)
    tokenizer: Any = Numbers(config.known_vocab)
    rate = bandwidth(device)
    print(describe_machine(device))
    print(f"reads {rate / 1e9:.1f} GB/s; {n_prompt} tokens of prompt, {n_new} new ones\n")
    print(
        "| weights | texts | ours, tokens/s | theirs, tokens/s | ratio | floor, tokens/s | same |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for dtype in (torch.float32, torch.bfloat16):
        model = Transformer(config, dtype=dtype, attention="math")
        initialise(model, seed=1)
        model.to(device).eval()
        theirs_model = theirs_with_weights_of(model).to(device, dtype)
        for n_texts in (1, 8):
            prompts = prompts_of(tokenizer, n_texts)
            ids = torch.stack([tokenizer.encode(prompt) for prompt in prompts])
            start = functional.pad(ids, (1, 0), value=tokenizer.end_of_text)
            ours, theirs = Ours(model, tokenizer, prompts), Theirs(theirs_model, start.to(device))
            ours()
            theirs()
            taken = [(seconds_of(ours), seconds_of(theirs)) for _ in range(options.rounds)]
            our_time, their_time = (statistics.median(times) for times in zip(*taken, strict=True))
            n_tokens = n_texts * n_new
            least = n_texts / floor_seconds(model, n_texts, n_prompt + n_new // 2, dtype, rate)
            n_same = sum(a == b for a, b in zip(ours.ids, theirs.ids, strict=True))
            print(
                f"| {str(dtype).removeprefix('torch.')} | {n_texts} | {n_tokens / our_time:.1f} | "
                f"{n_tokens / their_time:.1f} | {their_time / our_time:.2f} | {least:.1f} | "
                f"{n_same} of {n_texts} |",
                flush=True,
            )
        first = torch.tensor([[tokenizer.end_of_text]], device=device)
        seconds = seconds_of(partial(recomputed, model, first, n_prompt + n_new))
        without = (n_prompt + n_new) / seconds
        print(f"| {str(dtype).removeprefix('torch.')}, no cache | 1 | {without:.1f} | | | | |")


if __name__ == "__main__":
    main()
