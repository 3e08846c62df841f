"""From a line of a task's file to an item, for the layouts in which the files go round.

The prompts are those of lm-evaluation-harness 0.4 without examples. A file is in the layout of the
original data on the Hugging Face hub, or in the short one (query, choices, gold) of other
collections, whose queries hold some of the prompt already.
"""

import re
from typing import Any

from modelwright.evaluation.items import Item, Row, choice_item, filled_item


def hellaswag(row: Row) -> Item:
    """An activity, the beginning of a scene, and four endings.

    Without `ctx_a` and `ctx_b` the row is of the text file of llama.cpp: cleaned, the label in
    front, but the last sentence, which the endings go on with, in small letters.
    """
    if "ctx_a" in row:
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    else:
        context = begin_last_sentence(row["ctx"])
    endings = [without_wikihow_marks(ending) for ending in row["endings"]]
    return choice_item(without_wikihow_marks(context), endings, int(row["label"]))


def without_wikihow_marks(text: str) -> str:
    """A text without what is left of WikiHow's markup."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def begin_last_sentence(text: str) -> str:
    """Give a last sentence that begins with a small letter a capital."""
    begun = re.search(r"""(?<=[.!?]|["'])\s+([a-z][^.!?]*)$""", text)
    return text if begun is None else text[: begun.start(1)] + begun[1].capitalize()


def lambada(row: Row) -> Item:
    """A passage whose last word is to be guessed; words are what stands between spaces."""
    before, _, last = row["text"].rpartition(" ")
    return Item(((before, f" {last}"),), 0, (last,))


def piqa(row: Row) -> Item:
    """Something to be done, and two ways."""
    if "query" in row:
        return choice_item(asked(row["query"]), row["choices"], row["gold"])
    solutions = [row["sol1"], row["sol2"]]
    return choice_item(f"Question: {row['goal']}\nAnswer:", solutions, int(row["label"]))


def arc(row: Row) -> Item:
    """A question of a science test; the short layout repeats an answer where there are three."""
    if "query" in row:
        distinct = list(dict.fromkeys(row["choices"]))
        return choice_item(
            asked(row["query"]), distinct, distinct.index(row["choices"][row["gold"]])
        )
    question, choices, gold = labelled(row)
    return choice_item(f"Question: {question}\nAnswer:", choices, gold)


def openbookqa(row: Row) -> Item:
    """The beginning of a sentence of elementary science, and ways to end it."""
    if "query" in row:
        return choice_item(row["query"], row["choices"], row["gold"])
    return choice_item(*labelled(row))


def commonsense_qa(row: Row) -> Item:
    """A question and answers by letter, of which the letter is to be said."""
    if "query" in row:
        query = row["query"].replace("\nChoices:\n", "\n")
        return choice_item(query, row["choices"], row["gold"])
    question, choices, gold = labelled(row)
    letters = "ABCDE"[: len(choices)]
    lines = [f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True)]
    prompt = "\n".join([f"Question: {question.strip()}", *lines, "Answer:"])
    return choice_item(prompt, list(letters), gold)


def boolq(row: Row) -> Item:
    """A passage and a question that is answered by no or yes."""
    if "query" in row:
        return choice_item(
            asked(row["query"].removeprefix("Passage: ")), row["choices"], row["gold"]
        )
    prompt = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
    return choice_item(
        prompt, ["no", "yes"], int(row["label"] if "label" in row else row["answer"])
    )


def copa(row: Row) -> Item:
    """What happened, and two causes or two effects; the harness puts two spaces before these."""
    if "query" in row:
        premise, _, connector = row["query"].rpartition(", ")
        choices, gold = row["choices"], row["gold"]
    else:
        premise = row["premise"].strip()[:-1]
        connector = {"cause": "because", "effect": "therefore"}[row["question"]]
        choices, gold = [row["choice1"], row["choice2"]], int(row["label"])
    small = [f" {choice[0].lower()}{choice[1:]}" for choice in choices]
    return choice_item(f"{premise} {connector}", small, gold)


def winogrande(row: Row) -> Item:
    """A sentence with a gap and two names that may fill it."""
    if "context_options" in row:
        return filled_item(row["context_options"], row["continuation"], row["gold"])
    before, _, after = row["sentence"].partition("_")
    fillings = [before + row["option1"], before + row["option2"]]
    return filled_item(fillings, after.strip(), int(row["answer"]) - 1)


_determiners = {"my", "his", "her", "our", "their"}
_capitals = {"A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their"}


def wsc273(row: Row) -> Item:
    """A sentence with a pronoun and two that it may stand for."""
    if "context_options" in row:
        return filled_item(row["context_options"], row["continuation"], row["gold"])
    text, at = row["text"].replace("  ", " "), row["pronoun_loc"]
    begins_sentence = text[at - 2] == "."
    fillings: list[str] = []
    for option in row["options"]:
        filling = option + "'s" if row["pronoun"].lower() in _determiners else option
        first = filling.split()[0]
        if first in _capitals and not begins_sentence:
            filling = filling.replace(first, first.lower())
        fillings.append(text[:at] + filling)
    # The space before the rest of the sentence is kept, so that there are two, as in the harness.
    return filled_item(fillings, text[at + len(row["pronoun"]) :], int(row["label"]))


def asked(query: str) -> str:
    """A question of the short layout, with what the answer follows."""
    return f"{query.rstrip()}\nAnswer:"


def labelled(row: Row) -> tuple[str, list[str], int]:
    """Question, answers and place of the right one, where answers bear letters or numbers."""
    stem: Any = row.get("question_stem", row.get("question"))
    choices = row.get("choices")
    if isinstance(stem, dict):  # the files of AllenAI
        stem, choices = stem["stem"], stem["choices"]
    if isinstance(choices, list):
        labels = [choice["label"] for choice in choices]
        texts = [choice["text"] for choice in choices]
    else:
        assert isinstance(choices, dict)
        labels, texts = choices["label"], choices["text"]
    return stem, list(texts), list(labels).index(row["answerKey"].strip())
