import pytest
import torch

from modelwright.runtime import device
from modelwright.runtime.device import choose_device, choose_dtype, describe_machine

cpu = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [({"avx512_bf16"}, torch.bfloat16), ({"amx_bf16"}, torch.bfloat16), ({"avx2"}, torch.float32)],
)
def test_auto_takes_bf16_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], dtype: torch.dtype
):
    monkeypatch.setattr(device, "processor_flags", lambda: frozenset(flags))
    assert choose_dtype("auto", cpu) == dtype
    assert choose_dtype("fp32", cpu) == torch.float32
    assert choose_dtype("bf16", cpu) == torch.bfloat16


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == cpu
    with pytest.raises(
        ValueError, match=r"training\.device is 'cuda', but PyTorch sees no CUDA GPU"
    ):
        choose_device("cuda")
    with pytest.raises(ValueError, match=r"^--device is 'cuda', but PyTorch sees no CUDA GPU"):
        choose_device("cuda", setting="--device")


def test_the_machine_is_described():
    machine = describe_machine(cpu)
    assert machine.processor
    assert machine.gpu is None
    assert machine.torch == torch.__version__
