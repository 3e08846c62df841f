"""Lines of files, in every layout, and the texts that a model is asked to continue."""

import pytest

from modelwright.evaluation import readers
from modelwright.evaluation.items import Item


def only_context(item: Item) -> str:
    [context] = {before for before, _ in item.pairs}
    return context


def test_hellaswag_of_the_hub_and_of_the_text_file_are_the_same_item():
    endings = ["falls [step] down.", "gets up. [title] He leaves."]
    hub = readers.hellaswag(
        {
            "activity_label": "Roof",
            "ctx_a": "A man sits [substeps] there.",
            "ctx_b": "he",
            "endings": endings,
            "label": "1",
        }
    )
    text = readers.hellaswag(
        {
            "ctx": "Roof: A man sits there. he",
            "endings": ["falls down.", "gets up.. He leaves."],
            "label": 1,
        }
    )
    assert hub.pairs[0] == ("Roof: A man sits there. He", " falls down.")
    assert hub == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Jump: A boy runs. the boy", "Jump: A boy runs. The boy"),
        ('Talk: She says "Go!" then he', 'Talk: She says "Go!" Then he'),
        ("Shoes: Look at them. Buy some.", "Shoes: Look at them. Buy some."),
        ("Dance: a group", "Dance: a group"),
    ],
)
def test_only_a_last_sentence_in_small_letters_gets_a_capital(before: str, after: str):
    assert readers.begin_last_sentence(before) == after


def test_lambada_asks_for_what_follows_the_last_space():
    item = readers.lambada({"text": "He said\nthat he  was some kind of\n\nPower"})
    assert item.pairs == (("He said\nthat he  was some kind", " of\n\nPower"),)


def test_piqa_in_both_layouts():
    hub = {"goal": "Fill it", "sol1": "Use sand.", "sol2": "Use air.", "label": 0}
    short = {"query": "Question: Fill it\n", "choices": ["Use sand.", "Use air."], "gold": 0}
    assert readers.piqa(hub) == readers.piqa(short)
    assert readers.piqa(hub).pairs[1] == ("Question: Fill it\nAnswer:", " Use air.")


labels = {"text": ["red", "blue", "green"], "label": ["A", "B", "C"]}


def test_arc_in_three_layouts():
    hub = {"question": "Which?", "choices": labels, "answerKey": "C"}
    pairs = zip(labels["text"], "123", strict=True)
    stem = {"stem": "Which?", "choices": [{"text": t, "label": n} for t, n in pairs]}
    short = {"query": "Question: Which?", "choices": ["red", "blue", "red", "green"], "gold": 3}
    items = [
        readers.arc(hub),
        readers.arc({"question": stem, "answerKey": "3"}),
        readers.arc(short),
    ]
    assert items == [items[0]] * 3
    assert items[0].gold == 2 and only_context(items[0]) == "Question: Which?\nAnswer:"


def test_openbookqa_goes_on_with_the_sentence():
    hub = {"question_stem": "The sky is", "choices": labels, "answerKey": "B"}
    item = readers.openbookqa(hub)
    assert item.pairs[item.gold] == ("The sky is", " blue")
    assert item == readers.openbookqa({"query": "The sky is", "choices": labels["text"], "gold": 1})


def test_commonsense_qa_asks_for_a_letter():
    hub = readers.commonsense_qa({"question": " Where? ", "choices": labels, "answerKey": "B"})
    short = readers.commonsense_qa(
        {
            "query": "Question: Where?\nChoices:\nA. red\nB. blue\nC. green\nAnswer:",
            "choices": ["A", "B", "C"],
            "gold": 1,
        }
    )
    assert hub == short
    assert hub.pairs[1] == ("Question: Where?\nA. red\nB. blue\nC. green\nAnswer:", " B")


def test_boolq_in_three_layouts():
    hub = {"passage": "Ice is cold.", "question": "is ice cold", "label": 1}
    original = {"passage": "Ice is cold.", "question": "is ice cold", "answer": True}
    short = {
        "query": "Passage: Ice is cold.\nQuestion: is ice cold?",
        "choices": ["no", "yes"],
        "gold": 1,
    }
    items = [readers.boolq(row) for row in (hub, original, short)]
    assert items == [items[0]] * 3
    assert items[0].pairs[1] == ("Ice is cold.\nQuestion: is ice cold?\nAnswer:", " yes")


def test_copa_connects_by_because_or_therefore():
    hub = {
        "premise": "The man fell.",
        "question": "cause",
        "choice1": "He slept.",
        "choice2": "It was icy.",
        "label": 1,
    }
    short = {"query": "The man fell, because", "choices": ["he slept.", "it was icy."], "gold": 1}
    assert readers.copa(hub) == readers.copa(short)
    assert readers.copa(hub).pairs[1] == ("The man fell because", "  it was icy.")
    assert "therefore" in only_context(readers.copa(hub | {"question": "effect"}))


def test_winogrande_scores_the_same_end_after_two_names():
    hub = {"sentence": "Al hit Bo so _ ran off.", "option1": "Al", "option2": "Bo", "answer": "2"}
    item = readers.winogrande(hub)
    assert item.pairs == (("Al hit Bo so Al", " ran off."), ("Al hit Bo so Bo", " ran off."))
    assert item.gold == 1
    short = {
        "context_options": ["Al hit Bo so Al", "Al hit Bo so Bo"],
        "continuation": "ran off.",
        "gold": 1,
    }
    assert readers.winogrande(short) == item


def test_a_schema_puts_names_for_the_pronoun():
    row = {
        "text": "The men refused the women. They feared noise.",
        "pronoun": "They",
        "pronoun_loc": 27,
        "options": ["The men", "The women"],
        "label": 0,
    }
    item = readers.wsc273(row)
    assert item.pairs[0] == ("The men refused the women. The men", "  feared noise.")
    inside = row | {"text": "The men refused since they feared noise.", "pronoun_loc": 22}
    assert readers.wsc273(inside | {"pronoun": "they"}).pairs[1][0].endswith("since the women")
    whose = row | {"text": "Al saw Bo in his car.", "pronoun": "his", "pronoun_loc": 13}
    assert readers.wsc273(whose | {"options": ["Al", "Bo"]}).pairs[0][0] == "Al saw Bo in Al's"
