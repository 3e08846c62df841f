"""Steps that are recorded and repeated write what steps that are asked for one by one write."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import small
from modelwright.generation import decode_step
from modelwright.generation.cached_model import CachedModel
from modelwright.generation.config import SamplingConfig
from modelwright.generation.decode_step import reach_of, rows_of
from modelwright.generation.engine import Engine, n_steps_ahead, recorder_for
from modelwright.generation.recording import Recordings
from modelwright.generation.requests import Handle, Request
from modelwright.runtime.graphs import CudaGraphs

aten = torch.ops.aten
tokenizer = small.tokenizer()
model = small.model(vocab_size=tokenizer.n_vocab, context=24).eval()
greedy = SamplingConfig(temperature=0)


class Operations(TorchDispatchMode):
    """Writes down operations with the very tensors they work on, as a CUDA graph does.

    Numbers of the host, such as a length in a list, are written down as they are now.
    """

    # What would make a host wait, or bring numbers of its own in.
    forbidden = (aten._local_scalar_dense.default, aten.nonzero.default, aten.lift_fresh.default)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, Any]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func not in self.forbidden, f"{func} in a recorded step"
        for argument, given in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.before.append((given, given.clone()))
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.copy_(value)

    def repeat(self) -> None:
        for func, args, kwargs, result in self.calls:
            for old, new in zip(
                tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recorder:
    """Records on a processor; recording itself changes nothing, as on a GPU."""

    def __init__(self) -> None:
        self.n_recorded = self.n_repeated = 0

    def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        operations = Operations()
        with operations:
            result = function()
        operations.undo()
        self.n_recorded += 1

        def again() -> Tensor:
            self.n_repeated += 1
            operations.repeat()
            return result

        return again


def finished(requests: list[Request], **settings: Any) -> tuple[list[Handle], Recorder]:
    recorder = Recorder()
    settings = {"n_slots": 3, "graphs": True, "record": recorder} | settings
    engine = Engine(settings.pop("model", model), tokenizer, **settings)
    handles = [engine.submit(request) for request in requests]
    engine.run()
    assert engine.is_idle and not engine.on_their_way
    return handles, recorder


def outcome(handles: list[Handle]) -> list[Any]:
    return [(handle.tokens, handle.text, handle.ended) for handle in handles]


def plain(requests: list[Request], **settings: Any) -> list[Any]:
    return outcome(finished(requests, graphs=False, record=None, **settings)[0])


options: list[dict[str, Any]] = [
    {},
    {"positions": "learned"},
    {"window": 5},
    {"n_kv_heads": 1, "qk_norm": True},
    {"n_kv_heads": 4, "positions": "none"},
    {"placement": "post", "mlp": "gelu_tanh", "norm": "layernorm", "bias": True},
    {"norm": "layernorm", "bias": True, "positions": "learned", "mlp": "gelu_tanh"},
    {"norm": "none", "vocab_multiple": 64},
    {"d_head": 10, "tie_embeddings": False},
    {"rope_factor": 4.0, "rope_original_context": 8, "dropout": 0.5},
]


def logits_along(cached: CachedModel, ids: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """Logits of each step when each row's first tokens are read at once and the rest singly."""
    for row, length in enumerate(lengths):
        cached.prefill([row], ids[row : row + 1, :length])
    rows = torch.arange(len(ids))
    return [
        cached.decode(ids[rows, torch.tensor(lengths) + step]).clone()
        for step in range(ids.shape[1] - max(lengths))
    ]


@pytest.mark.parametrize("least_reach", [1, 4, 256])
@pytest.mark.parametrize("changes", options, ids=str)
def test_a_recorded_step_gives_the_logits_of_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], least_reach: int
):
    monkeypatch.setattr(decode_step, "least_reach", least_reach)
    other = small.model(dtype=torch.float64, **changes).eval()
    ids, recorder = small.ids(3), Recorder()
    recorded = logits_along(CachedModel(other, n_slots=4, record=recorder), ids, [5, 2, 4])
    expected = logits_along(CachedModel(other, n_slots=4), ids, [5, 2, 4])
    assert len(recorded) == 6 and recorder.n_repeated >= 2
    # Only the order of sums differs.
    torch.testing.assert_close(recorded, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stream_dtype", [None, torch.float32])
def test_a_recorded_step_rounds_as_one_that_is_not(stream_dtype: torch.dtype | None):
    other = small.model(dtype=torch.bfloat16, stream_dtype=stream_dtype).eval()
    ids = small.ids(2)
    recorded = logits_along(CachedModel(other, n_slots=2, record=Recorder()), ids, [5, 5])
    expected = logits_along(CachedModel(other, n_slots=2), ids, [5, 5])
    assert [logits.dtype for logits in recorded] == [torch.bfloat16] * 6
    for found, wanted in zip(recorded, expected, strict=True):
        # A few of the eight bits of a number.
        assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()


requests = [
    Request(prompt="Once", max_tokens=12, sampling=greedy, ignore_end=True),
    Request(prompt="The little dog", max_tokens=17, seed=1),
    Request(prompt="A", max_tokens=21, sampling=SamplingConfig(top_k=20), seed=2),
    Request(prompt="", max_tokens=15, sampling=SamplingConfig(temperature=2.0, top_p=1), seed=3),
    Request(prompt="Once", max_tokens=9, sampling=SamplingConfig(min_p=0.1, top_p=0.5), seed=4),
    Request(prompt="A", max_tokens=1, seed=5),
    Request(prompt="On", max_tokens=16, sampling=SamplingConfig(repetition_penalty=3.0), seed=6),
    Request(prompt="The", max_tokens=19, stop=["e", "a"], seed=7),
    Request(prompt="One day", max_tokens=40, sampling=greedy, ignore_end=True),  # it slides
]


@pytest.mark.parametrize("n_slots", [1, 2, 3, 9])
def test_requests_that_come_and_go_get_the_texts_they_get_without(n_slots: int):
    handles, recorder = finished(requests, n_slots=n_slots)
    assert outcome(handles) == plain(requests, n_slots=n_slots)
    assert recorder.n_repeated > recorder.n_recorded > 0
    assert {handle.ended for handle in handles} >= {"stop", "max_tokens"}


@pytest.mark.parametrize("n_between", [1, 2, 5])
def test_requests_that_come_one_by_one_get_them_too(n_between: int):
    engine = Engine(model, tokenizer, n_slots=3, graphs=True, record=Recorder())
    handles = []
    for request in requests:
        handles.append(engine.submit(request))
        for _ in range(n_between):
            stepped = engine.step()
            assert len(set(stepped)) == len(stepped) <= 3
    engine.run()
    assert outcome(handles) == plain(requests)


def test_a_request_has_its_text_whatever_is_beside_it():
    alone = [outcome(finished([request], n_slots=1)[0])[0] for request in requests]
    assert outcome(finished(requests, n_slots=4)[0]) == alone
    assert outcome(finished(requests[::-1], n_slots=5)[0]) == alone[::-1]


def test_a_stop_that_is_found_late_ends_the_text_where_it_should():
    """By steps that were begun after the end, others must not change, and it gets no tokens."""
    text = finished([Request(prompt="Once", max_tokens=18, sampling=greedy)])[0][0].text
    stopped = Request(prompt="Once", max_tokens=18, sampling=greedy, stop=[text[5:8]])
    others = [Request(prompt=prompt, max_tokens=14, seed=1) for prompt in ("A", "The", "On")]
    handles = finished([stopped, *others], n_slots=2)[0]
    assert (handles[0].text, handles[0].ended) == (text[: text.index(text[5:8])], "stop")
    assert outcome(handles) == plain([stopped, *others], n_slots=2)


def test_tokens_are_waited_for_a_few_steps_later():
    engine = Engine(model, tokenizer, n_slots=1, graphs=True, record=Recorder())
    handle = engine.submit(Request(prompt="A", max_tokens=10, sampling=greedy, ignore_end=True))
    assert engine.step() == [handle]
    assert (len(handle.tokens), handle.n_drawn) == (1, 1 + n_steps_ahead)
    engine.run()
    assert len(handle.tokens) == handle.n_drawn == 10


def test_a_text_leaves_its_slot_when_its_last_token_is_drawn():
    engine = Engine(model, tokenizer, n_slots=1, graphs=True, record=Recorder())
    first, second = (
        engine.submit(Request(prompt="A", max_tokens=2, sampling=greedy, ignore_end=True))
        for _ in range(2)
    )
    engine.step()
    assert (first.n_drawn, second.n_drawn, len(first.tokens)) == (2, 1, 1)


def test_a_cancelled_text_gets_no_more_tokens_and_leaves_nothing_to_wait_for():
    engine = Engine(model, tokenizer, n_slots=2, graphs=True, record=Recorder())
    settings: Any = {"max_tokens": 12, "ignore_end": True, "seed": 5}
    first, second = (engine.submit(Request(prompt=p, **settings)) for p in ("A", "On"))
    engine.step()
    engine.cancel(first)
    for _ in range(4):
        assert engine.step() == [second]
    assert (first.ended, len(first.tokens), len(second.tokens)) == ("cancelled", 1, 5)
    engine.cancel(second)
    assert engine.is_idle
    third = engine.submit(Request(prompt="On", **settings))
    engine.run()
    assert outcome([third]) == plain([Request(prompt="On", **settings)])


def test_log_probabilities_come_with_the_tokens_they_belong_to():
    sampling = SamplingConfig(temperature=0.5, top_k=5, repetition_penalty=1.3)
    asked = [
        Request(prompt="Once", max_tokens=8, sampling=sampling, seed=2, n_logprobs=n)
        for n in (3, None, 0)
    ]
    recorded = finished(asked)[0]
    expected = finished(asked, graphs=False, record=None)[0]
    assert [len(handle.logprobs) for handle in recorded] == [8, 0, 8]
    for handle, other in zip(recorded, expected, strict=True):
        assert handle.tokens == other.tokens
        for place, wanted in zip(handle.logprobs, other.logprobs, strict=True):
            assert place.token == wanted.token
            assert place.logprob == pytest.approx(wanted.logprob, abs=1e-5)
            assert [token for token, _ in place.likeliest] == [t for t, _ in wanted.likeliest]


def test_steps_are_recorded_once_for_a_number_of_rows_and_a_reach(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(decode_step, "least_reach", 8)
    asked = Request(prompt="", max_tokens=22, sampling=greedy, ignore_end=True)
    # Places 1 to 21: below 8, below 16 and below 24.
    assert finished([asked], n_slots=1)[1].n_recorded == 3
    assert finished([asked] * 3, n_slots=4)[1].n_recorded == 3
    assert (reach_of(7, 24), reach_of(8, 24), reach_of(16, 24), reach_of(23, 24)) == (8, 16, 24, 24)
    assert [rows_of(n, 6) for n in range(1, 7)] == [1, 2, 4, 4, 6, 6]


def test_a_step_without_memory_for_a_recording_goes_on_without_one():
    def record(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise torch.OutOfMemoryError

    asked = Request(prompt="A", max_tokens=9, sampling=greedy)
    assert outcome(finished([asked], record=record)[0]) == plain([asked])


def test_a_function_is_called_once_then_recorded_then_repeated():
    numbers = torch.zeros(1)
    recorder = Recorder()
    recordings = Recordings(recorder)
    for n in range(1, 5):
        assert recordings("key", lambda: numbers.add_(1)).tolist() == [n]
    assert (recorder.n_recorded, recorder.n_repeated) == (1, 3)
    recordings("other", lambda: numbers.add_(1))
    assert recorder.n_recorded == 1


def test_graphs_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="graphs is True, but the model is on 'cpu'.*leave graphs"):
        Engine(model, tokenizer, graphs=True)
    with pytest.raises(ValueError, match="graphs is False, but record says.*leave out one"):
        Engine(model, tokenizer, graphs=False, record=Recorder())


def test_graphs_are_made_on_an_nvidia_gpu_unless_they_are_not_wanted():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    recorder = Recorder()
    assert isinstance(recorder_for(gpu, graphs=None, record=None), CudaGraphs)
    assert recorder_for(cpu, graphs=None, record=None) is None
    assert recorder_for(cpu, graphs=None, record=recorder) is recorder
    assert recorder_for(gpu, graphs=False, record=None) is None
    assert isinstance(recorder_for(gpu, graphs=True, record=None), CudaGraphs)
    assert recorder_for(cpu, graphs=True, record=recorder) is recorder
