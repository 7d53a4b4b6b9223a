"""Templates are asked whether they tell tools; for those that do not, a system text does, and earlier calls become words."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.chat_templates import TEMPLATES
from fakes.schemas import random_tools

from interlock.errors import UsageError
from pipeline.datasets.tokenizer import TEMPLATE_WITH_TOOLS
from runtime.tools.definitions import parse_tools
from runtime.tools.grammar import BLOCKS, LIST, Form
from runtime.tools.prompt import template_form, tool_prompt

pytestmark = pytest.mark.train

TOOLS = parse_tools(random_tools(random.Random(2)))
CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "é"}'}}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "find é"},
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "one"},
    {"role": "tool", "tool_call_id": "c1", "content": "two"},
]


# Templates that write calls, each in its way.
SAY_CALLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}"
    "CALL{% endfor %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
OBJECT = '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (TEMPLATES["chatml"], None),
        (TEMPLATES["llama3"], None),
        (TEMPLATES["qwen with tools"], BLOCKS),  # it says nothing of calls
        (SAY_CALLS.replace("CALL", f"<tool_call>{OBJECT}</tool_call>"), Form("<tool_call>", "</tool_call><tool_call>", "</tool_call>")),
        (SAY_CALLS.replace("CALL", f"{{{{ '\\n' }}}}<tool_call>\n{OBJECT}\n</tool_call>"), BLOCKS),
        (TEMPLATE_WITH_TOOLS, Form("<tool_call>", "</tool_call><tool_call>", "</tool_call>")),
        (SAY_CALLS.replace("CALL", f"<call>{OBJECT}</call>"), BLOCKS),  # other marks than are known here
    ],
)
def test_a_template_is_asked_not_guessed(template: str, form: Form | None) -> None:
    assert template_form(template, "<s>", "</s>") == form


def test_a_template_with_a_branch_is_given_tools_and_arguments_as_objects() -> None:
    prompt = tool_prompt(byte_tokenizer(chat_template=TEMPLATES["qwen with tools"]), TALK, TOOLS)
    assert prompt.form == BLOCKS and prompt.variables == {"tools": [tool.document() for tool in TOOLS]}
    assert [message["role"] for message in prompt.messages] == ["user", "assistant", "tool", "tool"]
    assert prompt.messages[1]["tool_calls"][0]["function"]["arguments"] == {"q": "é"}


def test_another_one_is_told_in_words() -> None:
    prompt = tool_prompt(byte_tokenizer(), TALK, TOOLS)
    assert prompt.form == LIST and prompt.variables == {}
    assert [message["role"] for message in prompt.messages] == ["system", "user", "assistant", "user"]
    listed = prompt.messages[0]["content"].partition("<tools>")[2].partition("</tools>")[0]
    assert json.loads(listed) == [tool.document() for tool in TOOLS]
    assert prompt.messages[2]["content"].startswith('<tool_call>[{"name": "search", "arguments": {"q": "é"}}, ')
    assert prompt.messages[3]["content"] == "<tool_response>one</tool_response>\n<tool_response>two</tool_response>"
    with_system = tool_prompt(byte_tokenizer(), [{"role": "system", "content": "Be brief."}, *TALK], TOOLS).messages
    assert with_system[0]["content"].startswith("Be brief.\n\nYou can call") and len(with_system) == 4
    assert tool_prompt(byte_tokenizer(), TALK[:1], ()).messages == tuple(TALK[:1])


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        tool_prompt(byte_tokenizer(chat_template=None), TALK, TOOLS)
    for call in ({"function": {"name": "a"}}, {"function": {"name": "a", "arguments": "{"}}, "a"):
        with pytest.raises(UsageError, match="of the conversation"):
            tool_prompt(byte_tokenizer(), [{"role": "assistant", "content": "", "tool_calls": [call]}], TOOLS)
