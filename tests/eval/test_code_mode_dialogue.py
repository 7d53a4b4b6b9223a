"""Programs that call replayed tools, by a scripted model: the real loop, tokenizer, broker and confinement around it; and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.scripted import BROKER, ITEM, LOOK, TOKENIZER, scripted

from eval.answers import Answered, Ran, from_record, record
from eval.asking.code import dialogue, programs_in, signature
from eval.runners.deployment import Deployment
from eval.scoring.table import metrics, row
from eval.shipped import read_suite
from eval.suite import in_code_mode
from interlock.errors import EnvironmentRefused, UsageError
from pipeline.datasets.world import REGISTRY
from runtime.confinement import running

PROGRAM = '```python\nfound = weather.lookup("Gugeam")\nprint("It is", found["temperature"] + 1)\n```'


def _confined() -> bool:
    try:
        return bool(running.available())
    except EnvironmentRefused:
        return False


pytestmark = [pytest.mark.train, pytest.mark.skipif(not _confined(), reason="nothing confines a program on this system")]


def test_what_a_program_prints_comes_back_and_nothing_else() -> None:
    loaded, prompts = scripted(PROGRAM, "Integration: It is 13 degrees.")
    said = dialogue(Deployment(loaded, 300), BROKER, ITEM)
    assert said.text == "Integration: It is 13 degrees." and [one.how for one in said.ran] == ["done"]
    (made,) = said.calls
    assert (made.name, made.arguments, made.result) == (LOOK.name, LOOK.arguments, {"temperature": 12})
    assert (
        prompts[1].endswith("<tool_response>It is 13</tool_response>\nassistant\n")
        and '"temperature"' not in prompts[1].split("user", 1)[1].split("```")[2]
    )
    assert "weather.lookup(place: str" in prompts[0] and "no.tool" not in prompts[0]
    assert said.passes == sum(len(TOKENIZER.encode_prompt(one)) + 1 for one in (PROGRAM, said.text))
    assert said.prompt_tokens > len(TOKENIZER.encode_prompt(prompts[0]))
    assert from_record(record({"text": said})) == {"text": said} and said.ran[0].held[0] in ("limits", "bubblewrap")


@pytest.mark.parametrize(
    ("program", "told", "calls"),
    [
        ('weather.lookup("Elsewhere")', "LookupError: nothing is recorded for this call (line 1)", 1),
        ('weather.lookup(city="Gugeam")', "LookupError: place: expected an argument", 1),
        ("shell.run('ls')", "NameError", 0),
        ("weather()", "TypeError: weather is no tool", 0),
        ("print('a')\nimport socket\nsocket.socket()", "a\nPermissionError", 0),
        ('weather.lookup("\\ud800")', "LookupError: the arguments are no JSON", 0),
        ('print("x" * 100000)', "it printed more than", 0),
    ],
)
def test_what_goes_wrong_is_told(program: str, told: str, calls: int) -> None:
    loaded, prompts = scripted(f"```py\n{program}\n```", "I do not know.")
    said = dialogue(Deployment(loaded, 300), BROKER, ITEM)
    assert f"<tool_response>{told}" in prompts[1] and len(said.calls) == calls and said.text == "I do not know."
    assert said.ran[0].how in ("error", "output") and said.ran[0].message


def test_a_program_without_an_end_is_not_run() -> None:
    loaded, prompts = scripted("```python\nprint(1)")
    said = dialogue(Deployment(loaded, 200), BROKER, ITEM)
    assert said.malformed == 1 and said.ran == () and len(prompts) == 1
    assert programs_in("a ```python\n1\n``` b ```json\n{}\n``` c\n```py\n2\n  ``` d") == (["1\n", "2\n"], 0)


def test_a_signature_is_what_a_program_may_call() -> None:
    for name, tool in REGISTRY.items():
        line = signature(name, tool)
        scope: dict[str, Any] = {}
        exec(f"def {line.replace('.', '_', 1).split('  #')[0]}: return locals()", {}, scope)
        wanted = {one: kind.default for one, kind in tool.parameters.properties.items() if one not in tool.parameters.required}
        assert scope[name.replace(".", "_")](*["x"] * len(tool.parameters.required)) == dict.fromkeys(tool.parameters.required, "x") | wanted


def test_code_and_direct_calls_are_compared_over_items_that_are_for_code() -> None:
    suite = in_code_mode(read_suite("contextual"))
    assert suite.name == "contextual-code" and suite.has_tools and {"ces_saved", "code_adoption", "code_change", "leaks"} <= suite.gates.keys()
    with pytest.raises(UsageError, match="without tools"):
        in_code_mode(read_suite("smoke"))
    known = metrics(suite)
    item = replace(ITEM, calls=(LOOK, LOOK), accepted=(("12",),), for_code=True)
    code = Answered("12", "eos", 20, prompt_tokens=100, ran=(Ran("done", "", ("limits",)),))
    direct = Answered("12", "eos", 40, prompt_tokens=200)
    rows = [row(suite, replace(item, id=str(n)), {"text": code, "direct": direct}) for n in range(30)]
    rows += [row(suite, replace(item, id="wrong"), {"text": replace(code, text="", passes=1), "direct": direct})]
    rows += [row(suite, replace(item, id="direct", for_code=False), {"text": replace(code, ran=()), "direct": direct})]
    figures = {name: known[name](rows, 0.95) for name in ("ces_saved", "code_adoption", "code_change", "programs_done")}
    measured = {name: figure.interval.measured for name, figure in figures.items() if figure.interval}
    assert measured == {"ces_saved": 0.5, "code_adoption": 1.0, "code_change": pytest.approx(-1 / 32), "programs_done": 1.0}
    assert figures["ces_saved"].n == 30 and figures["code_adoption"].n == 31 and figures["code_change"].missed == ("wrong",)
