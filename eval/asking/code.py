"""`code`: the same question twice, by the same model: with tools that a program of its calls, and with tools that it calls directly.

Here: the dialogue around programs. Not here: running one (runtime/confinement), tools and results (broker), the direct dialogue (tools.py), judging
(scoring/code.py).
A program's tools are functions, and only what it prints enters the context: results that it worked on do not.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

from eval.answers import Answered, Ran
from eval.asking import Ask, Settings, tools
from eval.broker.replay import Broker
from eval.broker.tools import Property, Tool
from eval.calls import Call, Made
from eval.items import Item
from eval.runners import Runner
from eval.runners.table import opened as runner
from runtime.confinement import running

SYSTEM = """You can run Python programs that call tools. The tools are functions:
{tools}
To run a program, answer with nothing but a block that begins with ```python and ends with ```. You then get what it prints in <tool_response>, and \
nothing else: work in the program, and print what you need. Run one only if the question needs a tool and says all that it takes. When you know the \
answer, write one line for each result that you use, beginning with "Integration: "."""
PROMPTS = hashlib.sha256(f"{SYSTEM}{tools.SYSTEM}".encode()).hexdigest()
_BLOCK = re.compile(r"```(?:python|py)[ \t]*\n(.*?)(?:^[ \t]*```|(\Z))", re.DOTALL | re.MULTILINE)
_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def opened(settings: Settings) -> Ask:
    """Raises UsageError where there is no dataset with tools, EnvironmentRefused where no program could be confined."""
    broker = tools.broker_of(settings)
    running.run("", {}, lambda name, arguments: None)
    model = runner(settings.model, settings.max_new_tokens)
    return lambda item: {"text": dialogue(model, broker, item), "direct": tools.dialogue(model, broker, item)}


def dialogue(model: Runner, broker: Broker, item: Item) -> Answered:
    """Rounds of programs until the model says something without one, at most as many as direct calls have. Tokens are counted as there."""
    offered = {name: broker.registry[name] for name in sorted(item.tools) if name in broker.registry}
    messages = [{"role": "system", "content": SYSTEM.format(tools="\n".join(map(signature, offered, offered.values())))}, *item.messages]
    turns: list[dict[str, str]] = []
    calls: list[Made] = []
    ran: list[Ran] = []
    passes = malformed = 0
    for _ in range(tools.ROUNDS):
        said = model.say(item, messages)
        passes += said.passes
        programs, unread = programs_in(said.text)
        malformed += unread
        if not programs:
            break
        ended, made = _run("\n".join(programs), broker, offered)
        calls += made
        ran.append(Ran(ended.how, ended.message, ended.held))
        reply = "\n".join(filter(None, (ended.printed.rstrip("\n"), ended.message)))
        turns += [{"role": "assistant", "content": said.text}, {"role": "tool", "content": reply}]
        messages += [{"role": "assistant", "content": said.text}, {"role": "user", "content": tools.response([reply])}]
    text = _BLOCK.sub("", said.text).strip()
    return replace(said, text=text, passes=passes, turns=tuple(turns), calls=tuple(calls), malformed=malformed, ran=tuple(ran))


def programs_in(text: str) -> tuple[list[str], int]:
    """The programs that a text has, in order, and how many have no end: those are not run."""
    found = [(match[1], match[2] is None) for match in _BLOCK.finditer(text)]
    return [program for program, ends in found if ends], sum(not ends for _, ends in found)


def signature(name: str, tool: Tool) -> str:
    """A tool as a line of Python: `weather.lookup(place: str, unit: str = "celsius")  # The weather of a place`."""
    required, known = tool.parameters.required, tool.parameters.properties
    return f"{name}({', '.join(_argument(one, known[one], one in required) for one in _ordered(tool))})  # {tool.description}"


def _ordered(tool: Tool) -> list[str]:
    """Names of its arguments, those first that it requires."""
    return sorted(tool.parameters.properties, key=lambda name: name not in tool.parameters.required)


def _argument(name: str, kind: Property, required: bool) -> str:
    accepted = " | ".join(json.dumps(one, ensure_ascii=False) for one in kind.enum) if kind.enum else _TYPES[kind.type]
    return f"{name}: {accepted}" + ("" if required else f" = {kind.default!r}")


def _run(program: str, broker: Broker, offered: dict[str, Tool]) -> tuple[running.Ended, list[Made]]:
    calls: list[Made] = []

    def answer(name: str, arguments: dict[str, object]) -> object:
        if name not in offered:
            raise LookupError(f"there is no tool {name}")
        try:
            made = broker.call(Call(name, arguments))
        except (ValueError, RecursionError):  # texts and numbers that JSON cannot say again
            raise LookupError("the arguments are no JSON") from None
        calls.append(made)
        if made.problems:
            raise LookupError("; ".join(made.problems))
        if made.result is None:
            raise LookupError("nothing is recorded for this call")
        return made.result

    return running.run(program, {name: _ordered(tool) for name, tool in offered.items()}, answer), calls
