"""`tools`: a question, the tools that may be called, their replayed results, and the answer.

Here: the dialogue. Not here: tools and results (broker), finding calls in a text (runtime/tools/calls.py, as the server finds them), judging
(scoring).
All tools of the dataset that the item names are offered, whether they are needed or not, on controls too. The form is that of SmolLM2's family: tools
in a system message, calls in `<tool_call>`, results in a user message. No template in between: a model's own may have no place for tools.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.broker import replay
from eval.broker.replay import Broker
from eval.calls import Call, Made
from eval.items import Item
from eval.runners import Runner
from eval.runners.table import opened as runner
from interlock.contracts import dataset, io
from interlock.errors import UsageError
from runtime.tools.calls import parse_reply

ROUNDS = 4
MISS = '{"ok":false,"error":"nothing is recorded for this call"}'
SYSTEM = """You can call tools. They are listed here as JSON, one per line:
<tools>
{tools}
</tools>
To call tools, answer with nothing but <tool_call>[{{"name": "TOOL", "arguments": {{"NAME": "VALUE"}}}}]</tool_call>, one or several in the list. \
You then get their results in <tool_response>. Call a tool only if the question needs it and says all that it takes. When you know the answer, write \
one line for each result that you use, beginning with "Integration: "."""
PROMPTS = hashlib.sha256(SYSTEM.encode()).hexdigest()


def opened(settings: Settings) -> Ask:
    """Raises UsageError where there is no dataset with tools."""
    broker = broker_of(settings)
    model = runner(settings.model, settings.max_new_tokens)
    return lambda item: {"text": dialogue(model, broker, item)}


def broker_of(settings: Settings) -> Broker:
    """The replayed tools of the settings' dataset. Raises UsageError where there is none, or none with tools."""
    if settings.dataset is None:
        raise UsageError(
            "a suite that asks with tools needs a dataset that has them", remedy="name one with --dataset: interlock data make contextual"
        )
    contract = io.read_contract(settings.dataset / dataset.FILE, dataset.DatasetContract)
    return replay.opened(settings.dataset, contract)


def dialogue(model: Runner, broker: Broker, item: Item) -> Answered:
    """Rounds of calls until the model says something without one, at most four. `prompt_tokens` are those of the last round, which has all others
    in it: with `passes`, all that enters the context."""
    messages = [{"role": "system", "content": system(broker, item)}, *item.messages]
    turns: list[dict[str, str]] = []
    calls: list[Made] = []
    passes = malformed = 0
    for _ in range(ROUNDS):
        said = model.say(item, messages)
        passes += said.passes
        reply = parse_reply(said.text)
        malformed += reply.unread
        made = [broker.call(Call(call.name, call.arguments)) for call in reply.calls]
        calls += made
        if not made:
            break
        replies = [json.dumps(one.result, ensure_ascii=False) if one.result is not None else MISS for one in made]
        turns += [{"role": "assistant", "content": said.text}, *({"role": "tool", "content": reply} for reply in replies)]
        messages += [{"role": "assistant", "content": said.text}, {"role": "user", "content": response(replies)}]
    return replace(said, text=reply.text, passes=passes, turns=tuple(turns), calls=tuple(calls), malformed=malformed)


def system(broker: Broker, item: Item) -> str:
    """The system message: the item's tools, by name."""
    offered = sorted(name for name in item.tools if name in broker.registry)
    lines = (json.dumps({"name": name, **broker.registry[name].model_dump(exclude_none=True)}, ensure_ascii=False) for name in offered)
    return SYSTEM.format(tools="\n".join(lines))


def response(replies: list[str]) -> str:
    """Results as they come back to the model."""
    return "\n".join(f"<tool_response>{reply}</tool_response>" for reply in replies)
