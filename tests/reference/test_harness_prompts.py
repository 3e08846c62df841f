"""The texts that our readers make of the hub's layouts, beside those of the harness's own tasks."""

import json
from pathlib import Path
from typing import Any

import pytest

import harness
from modelwright.evaluation.tasks import read_task, tasks

labels = {"text": ["a red one", "a blue one", "green"], "label": ["A", "B", "C"]}
five = {"text": ["bank", "mall", "park", "home", "sea"], "label": ["A", "B", "C", "D", "E"]}
hub_rows: dict[str, list[dict[str, Any]]] = {
    "hellaswag": [
        {
            "activity_label": "Roof shingle removal",
            "ctx_a": "A man is sitting on a roof.",
            "ctx_b": "he then",
            "endings": ["is using wrap.", "rips [step] tiles  off.", "holds a cube.", "starts."],
            "label": "3",
        },
        {
            "activity_label": "Home and Garden",
            "ctx_a": "[header] How to sow [title] Buy seeds. [step] Any will do.",
            "ctx_b": "",
            "endings": ["Sow. [title] Wait.", "Eat them.", " Burn them.", "Sell them."],
            "label": "0",
        },
    ],
    "lambada_openai": [{"text": "He said  it was\n\nsome kind of\n\nPower"}, {"text": "a b c"}],
    "piqa": [{"goal": "Fill a box ", "sol1": "Use sand.", "sol2": "Use air.", "label": 1}],
    "arc_easy": [{"question": "Which is it?", "choices": labels, "answerKey": "C"}],
    "arc_challenge": [
        {
            "question": "Which is it?",
            "choices": labels | {"label": ["1", "2", "3"]},
            "answerKey": "2",
        }
    ],
    "winogrande": [
        {"sentence": "Al hit Bo so _ ran off.", "option1": "Al", "option2": "Bo", "answer": "2"},
        {"sentence": "_ fled, as he was ill.", "option1": "Al", "option2": "Bo", "answer": "1"},
    ],
    "openbookqa": [{"question_stem": "The sky is", "choices": labels, "answerKey": "B"}],
    "copa": [
        {
            "premise": "The man fell.",
            "question": question,
            "choice1": "He slept.",
            "choice2": "It was icy.",
            "label": 1,
        }
        for question in ("cause", "effect")
    ],
    "boolq": [{"passage": "Ice -- Ice is cold.", "question": "is ice cold", "label": 1}],
    "commonsense_qa": [{"question": " Where is it? ", "choices": five, "answerKey": "D"}],
    "wsc273": [
        {
            "text": "The men refused the women  a permit. They feared noise.",
            "pronoun": "They",
            "pronoun_loc": 36,
            "options": ["The men", "The women"],
            "label": 0,
        },
        {
            "text": "Al saw Bo in his car, since he waved.",
            "pronoun": "his",
            "pronoun_loc": 13,
            "options": ["Al", "Bo"],
            "label": 1,
        },
        {
            "text": "The dog chased the cat until it hid.",
            "pronoun": "it",
            "pronoun_loc": 29,
            "options": ["The dog", "the cat"],
            "label": 1,
        },
    ],
}


@pytest.mark.parametrize("name", tasks)
def test_our_prompts_are_those_that_the_harness_ships(name: str, tmp_path: Path):
    harness.library()
    from lm_eval.api.task import ConfigurableTask  # pyright: ignore[reportMissingImports]

    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in hub_rows[name]))
    theirs = ConfigurableTask(config=harness.shipped_config(name, file))
    theirs.build_all_requests(rank=0, world_size=1)
    asked: dict[int, list[tuple[str, str]]] = {}
    for instance in theirs.instances:
        asked.setdefault(instance.doc_id, []).append(instance.args)
    ours = read_task(tasks[name], file).items
    assert [list(item.pairs) for item in ours] == [asked[place] for place in range(len(ours))]
    if len(ours[0].pairs) == 1:
        return
    # Whatever is right for us has to be right for them.
    for place, item in enumerate(ours):
        answers = [
            (-1.0 if number == item.gold else -2.0, False) for number in range(len(item.pairs))
        ]
        doc = theirs.eval_docs[place]
        assert theirs.process_results(doc, answers)["acc"] == 1.0
