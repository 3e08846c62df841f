"""What ranks really hold and send, counted in two processes that share a model by PyTorch's FSDP2,
is what the closed forms say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelwright.accounting.parameters import tensor_counts
from modelwright.accounting.sharing import Sharing, data_sent_bytes, state_bytes
from rank_of_two import n_portions, shape

script = Path(__file__).parents[1] / "rank_of_two.py"
n_ranks = 2
sharing = Sharing(stage=3, n_ranks=n_ranks)
Found = dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each rank counted, by the number of token matrices and then by kind."""
    rendezvous = tmp_path_factory.mktemp("ranks") / "rendezvous"
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(n_ranks), str(rendezvous)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n_ranks)
    ]
    found = []
    try:
        for process in processes:
            out, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            found.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in processes:
            process.kill()
    return found


@pytest.mark.parametrize("matrices", ["one", "two"])
def test_the_first_rank_holds_what_the_closed_form_says(ranks: list[Found], matrices: str):
    shapes = [one.shape for one in tensor_counts(shape(tied=matrices == "one"))]
    held = dict(ranks[0][matrices])
    held.pop("sent")
    assert held == state_bytes(shapes, sharing)


@pytest.mark.parametrize("matrices", ["one", "two"])
def test_no_rank_holds_more_and_together_they_hold_all(ranks: list[Found], matrices: str):
    counts = tensor_counts(shape(tied=matrices == "one"))
    held = [rank[matrices]["weights"] for rank in ranks]
    assert held[0] > held[1]  # or an uneven division was not tested
    assert sum(held) == 4 * sum(one.n_parameters for one in counts)


@pytest.mark.parametrize("matrices", ["one", "two"])
def test_each_rank_sends_what_the_closed_form_says(ranks: list[Found], matrices: str):
    expected = data_sent_bytes(shape(tied=matrices == "one"), sharing, n_portions=n_portions)
    assert [rank[matrices]["sent"] for rank in ranks] == [expected] * n_ranks
