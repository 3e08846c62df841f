"""Scoring HellaSwag with GPT-2 small: ours beside lm-evaluation-harness, on one exported model.

    MODELWRIGHT_DATA=~/data python benchmarks/evaluate.py                 # two threads, 40 items
    MODELWRIGHT_DATA=~/data python benchmarks/evaluate.py --device cuda --items 2000

Both take texts and give log-probabilities, tokenizing included: `Evaluation.task`, and the
`loglikelihood` of the harness's class for transformers, which reads every ending behind its own
copy of the context. Weights are chance, so only times mean anything; the log-probabilities are
compared. They take turns, and the medians are printed. Needs lm-eval[hf]; the folder holds `eval/`
and `gpt2/`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelwright.runtime.threads import wait_politely

wait_politely()

import torch  # noqa: E402

from modelwright.checkpoint.bundle import Bundle, distinct_weights, write_bundle  # noqa: E402
from modelwright.evaluation.running import Evaluation  # noqa: E402
from modelwright.evaluation.tasks import TaskFile, find_file, read_task, tasks  # noqa: E402
from modelwright.interop.huggingface import export_model  # noqa: E402
from modelwright.interop.opening import open_model  # noqa: E402
from modelwright.model.config import ModelConfig  # noqa: E402
from modelwright.model.initialise import initialise  # noqa: E402
from modelwright.model.presets import presets  # noqa: E402
from modelwright.model.transformer import Transformer  # noqa: E402
from modelwright.runtime.device import describe_machine  # noqa: E402
from modelwright.tokenizer.formats import read_vocab_and_merges  # noqa: E402
from modelwright.tokenizer.tokenizer import Tokenizer  # noqa: E402

task = tasks["hellaswag"]


def write_models(folder: Path, data: Path) -> None:
    """GPT-2 small with chance weights: as a model of ours, and exported."""
    gpt2 = data / "gpt2"
    tokenizer = Tokenizer(read_vocab_and_merges(gpt2 / "gpt2_vocab.json", gpt2 / "gpt2_merges.txt"))
    model = Transformer(ModelConfig(**presets["gpt2-small"]))
    initialise(model, seed=0)
    bundle = Bundle(folder / "ours", model.eval(), tokenizer)
    bundle.folder.mkdir()
    write_bundle(bundle.folder, model.config, distinct_weights(model), tokenizer)
    export_model(bundle, folder / "theirs")


def ours(
    folder: Path, file: TaskFile, device: torch.device, dtype: torch.dtype, batch_tokens: int | None
) -> Callable[[], list[float]]:
    """Score the file anew at each call."""
    bundle = open_model(folder / "theirs", device=device, dtype=dtype, on_note=print)
    evaluation = Evaluation(bundle, folder / "records", batch_tokens=batch_tokens)

    def call() -> list[float]:
        result = evaluation.task(task, file)
        evaluation.forget_records()
        return [value for _, one in sorted(result.outcomes.items()) for value in one.logprobs]

    return call


def theirs(
    folder: Path, file: TaskFile, device: torch.device, dtype: torch.dtype, batch_size: int
) -> Callable[[], list[float]]:
    """The same by the harness."""
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    lm = HFLM(
        pretrained=str(folder / "theirs"),
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        batch_size=batch_size,
    )

    def call() -> list[float]:
        requests: list[Any] = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=number)
            for item in file.items
            for number, pair in enumerate(item.pairs)
        ]
        return [logprob for logprob, _ in lm.loglikelihood(requests, disable_tqdm=True)]

    return call


def seconds_of(call: Callable[[], object]) -> float:
    """The time of one call, whose end waits for the device."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), help="left out: bf16 on cuda")
    parser.add_argument("--batch-tokens", type=int, help="ours; left out, what is usual")
    parser.add_argument("--batch-sizes", default="", help="theirs, with commas: 8,16 or 32,128")
    choice = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    data = Path(os.environ.get("MODELWRIGHT_DATA") or parser.error("set MODELWRIGHT_DATA"))
    device = torch.device(choice.device)
    on_gpu = device.type == "cuda"
    dtype = (
        torch.bfloat16 if (choice.dtype or ("fp32", "bf16")[on_gpu]) == "bf16" else torch.float32
    )
    sizes = choice.batch_sizes or ("32,128" if on_gpu else "1,8")
    file = read_task(task, find_file(task, data / "eval"), limit=choice.items)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder, data)
        contenders = {"modelwright": ours(folder, file, device, dtype, choice.batch_tokens)}
        for size in map(int, sizes.split(",")):
            contenders[f"lm-eval, batch of {size}"] = theirs(folder, file, device, dtype, size)
        answers = {label: call() for label, call in contenders.items()}
        times: dict[str, list[float]] = {label: [] for label in contenders}
        for _ in range(choice.rounds):
            for label, call in contenders.items():
                times[label].append(seconds_of(call))
    machine = describe_machine(device)
    print(
        f"{machine.gpu or machine.processor}, torch {machine.torch}, {dtype}, {choice.items} items"
    )
    mine = statistics.median(times["modelwright"])
    for label, found in times.items():
        median = statistics.median(found)
        apart = max(abs(x - y) for x, y in zip(answers[label], answers["modelwright"], strict=True))
        print(
            f"{label:24} {choice.items / median:8.1f} items/s  ({min(found):.2f} to "
            f"{max(found):.2f} s)  {median / mine:5.2f} x our time  at most {apart:.1e} nats apart"
        )


if __name__ == "__main__":
    main()
