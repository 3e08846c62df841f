"""A task put to a model: its questions in that model's tokens, and the answers as they come.

`modelwright evaluate` and the scores during training both ask here.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from modelwright.evaluation.encoding import Scored, encode_items
from modelwright.evaluation.items import Outcome
from modelwright.evaluation.results import TaskResult
from modelwright.evaluation.scoring import Scorer
from modelwright.evaluation.tasks import Task, TaskFile
from modelwright.tokenizer.tokenizer import Tokenizer


class CannotBeAsked(ValueError):
    """A model cannot be asked a task, such as one whose answers alone are longer than it sees."""


@dataclass(frozen=True)
class Questions:
    """The items of a task as a model reads them.

    Attributes:
        encoded: the pairs of each item, by its place in the file.
    """

    task: Task
    file: TaskFile
    encoded: tuple[tuple[Scored, ...], ...]

    def answers(self, scorer: Scorer, known: Collection[int] = ()) -> Iterator[dict[int, Outcome]]:
        """Score the items.

        Args:
            known: the places of items that are scored already.

        Yields:
            After each batch, what the model made of the items that it finished, by their place.
        """
        missing = [place for place in range(len(self.encoded)) if place not in known]
        for found in scorer.outcomes([self.encoded[place] for place in missing]):
            yield {missing[number]: outcome for number, outcome in found.items()}

    def result(self, outcomes: dict[int, Outcome]) -> TaskResult:
        """What came of them."""
        return TaskResult(self.task, self.file, outcomes)


def questions_for(
    task: Task, file: TaskFile, tokenizer: Tokenizer, *, context: int, who: str, instead: str
) -> Questions:
    """Put a task into a model's tokens.

    Args:
        context: how many tokens the model sees.
        who: what the model is called where it cannot be asked.
        instead: what to do then.

    Raises:
        CannotBeAsked: saying why.
    """
    try:
        encoded = encode_items(file.items, tokenizer, context=context)
    except ValueError as error:
        raise CannotBeAsked(f"{who} cannot be asked {task.name}: {error}; {instead}") from None
    return Questions(task, file, tuple(encoded))
