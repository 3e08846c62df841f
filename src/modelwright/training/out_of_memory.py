"""The error of a step that does not fit into memory, with what is known of that moment."""

from modelwright.runtime.gpu_memory import MemoryFigures


class OutOfMemory(MemoryError):
    """A step needs more memory than there is, and nothing that training may change would help.

    Attributes:
        micro_batch: sequences that went through the model at once.
        figures: how the memory was given out; None where nobody knows.
    """

    def __init__(
        self, message: str, *, micro_batch: int, figures: MemoryFigures | None = None
    ) -> None:
        super().__init__(message)
        self.micro_batch = micro_batch
        self.figures = figures
