"""Which text a run learns from, and how it becomes a folder of token shards."""

from modelwright.config.schema import settings
from modelwright.tokenizer.vocabulary import END_OF_TEXT


@settings
class SourceConfig:
    """One of several sources of text that make a mixture."""

    path: str
    """What `data.source` may be: a file, a folder, a glob, "hub:NAME", "-" or "stories"."""
    weight: float = 1.0
    """How often each document comes in an epoch: 2 is twice, 0.5 is every other one by chance."""
    text_field: str | None = None
    """The field that holds the text, if it is not `data.text_field`."""
    separator: str | None = None
    """The text between two documents, if it is not `data.separator`."""

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 100:
            raise ValueError(
                f"data.source.weight is {self.weight} for {self.path}; choose a number above 0 "
                "and up to 100, such as 1 to read every document once an epoch"
            )


@settings
class DataConfig:
    """Which text a run learns from and where its tokens are kept."""

    folder: str = "data/stories"
    """Folder of token shards; built from `source` if it is not there."""
    source: str | tuple[SourceConfig, ...] = "stories"
    """A file, a folder, a glob such as "web/*.jsonl.gz", "hub:NAME" for a dataset of the Hugging
    Face hub, "-" for standard input ("-.jsonl" if it is JSON lines), or "stories" for the built-in
    corpus; or several [[data.source]] tables with a path and a weight each."""
    separator: str = END_OF_TEXT
    """The text that stands between two documents of a text file; empty, and a file is one."""
    text_field: str = "text"
    """The field of JSON lines and the column of Parquet files that hold the text."""
    min_bytes: int = 0
    """Shorter documents are left out."""
    max_bytes: int | None = None
    """Longer documents are left out; left out itself, none is too long."""
    deduplicate: bool = False
    """Keep only the first of the documents that differ at most in case and white space."""
    stories_bytes: int = 10_000_000
    """How much of the built-in corpus to tell, in bytes."""
    stories_seed: int = 1
    """Which of the endless built-in corpora to tell."""
    validation_fraction: float = 0.02
    """Share of the documents that is kept out of training to measure the loss on."""
    shard_tokens: int = 100_000_000
    """Most tokens in one shard file; a document is never divided over two."""
    downloads: str | None = None
    """Folder where files fetched from the hub stay; left out, each goes when its turn is over."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction <= 0.5:
            raise ValueError(
                f"data.validation_fraction is {self.validation_fraction}; choose a share above 0 "
                "and up to 0.5, such as 0.02"
            )
        for name in ("stories_bytes", "shard_tokens"):
            if getattr(self, name) < 1000:
                raise ValueError(f"data.{name} is {getattr(self, name)}; the least is 1000")
        if not self.folder:
            raise ValueError("data.folder is empty; name a folder, such as data/stories")
        if self.min_bytes < 0:
            raise ValueError(f"data.min_bytes is {self.min_bytes}; the least is 0")
        if self.max_bytes is not None and self.max_bytes < max(1, self.min_bytes):
            raise ValueError(
                f"data.max_bytes is {self.max_bytes}, and data.min_bytes {self.min_bytes}: no "
                "document has such a length; raise data.max_bytes or leave it out"
            )
        self._check_sources()

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The sources, also where there is only one."""
        return (SourceConfig(path=self.source),) if isinstance(self.source, str) else self.source

    def _check_sources(self) -> None:
        if not self.sources or not all(source.path for source in self.sources):
            raise ValueError("data.source names no text; name a file, a folder, or 'stories'")
        for kind, is_kind in (("stories", is_stories), ("standard input", is_standard_input)):
            if sum(is_kind(source.path) for source in self.sources) > 1:
                raise ValueError(f"data.source lists {kind} twice; list it once with a weight")


def is_stories(path: str) -> bool:
    """Whether a source is the built-in corpus."""
    return path == "stories"


def is_standard_input(path: str) -> bool:
    """Whether a source is what is piped in; what follows the dash says what kind of file it is."""
    return path == "-" or path.startswith("-.")


def is_on_hub(path: str) -> bool:
    """Whether a source is a dataset of the Hugging Face hub."""
    return path.startswith("hub:")
