"""Chat templates: messages to the model's own prompt format, by a Jinja program that came with the model and is not trusted.

Here: rendering in a limited child, and encoding so that what a user typed stays text. Not here: many conversations (chats.py), the ids of text
(tokenizer.py), the child's limits (sandbox.py) and where it comes from (forks.py).
This is the only call site of a template engine in the project.
"""

from __future__ import annotations

import datetime
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from interlock.errors import ContractError, InterlockError, UsageError, refuse
from runtime.engine import forks, sandbox

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from runtime.engine.tokenizer import Tokenizer

Json = Any  # what json.loads returns
Message = Mapping[str, Json]

TEMPLATE_BYTES = 256 << 10  # the longest published templates (tool calling, reasoning) are near 20 KB
CONVERSATION_BYTES = 2 << 20  # messages and variables as JSON: several times the longest context that a student has
_PROMPT_CHARS = 4 << 20
_LIMITS = sandbox.Limits(cpu_s=3, wall_s=12.0, memory_bytes=256 << 20, output_bytes=32 << 20)  # JSON may spend six bytes on a character
_NONCE_DIGITS = 24


def render_chat(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    bos_token: str | None = None,
    eos_token: str | None = None,
    variables: Mapping[str, Json] | None = None,
    today: datetime.date | None = None,
) -> str:
    """The prompt text of a conversation, as transformers' `apply_chat_template(tokenize=False)` gives it.

    `messages`: records with at least `role` and `content`. `variables`: what the template may read beside them (`tools`, `enable_thinking`).
    `today` is what the template's `strftime_now` sees; without it the function does not exist, so that a prompt depends on its arguments only.
    Raises ContractError for a template that fails, reaches for Python's internals or exceeds its limits; UsageError for messages that it refuses
    by its own `raise_exception`, and for a conversation that is too long.
    """
    given = context(messages, add_generation_prompt=add_generation_prompt, bos_token=bos_token, eos_token=eos_token, variables=variables)
    try:
        [found] = rendered(template, [given], today)
    except sandbox.ChildFailed as failed:
        raise unrendered(failed) from None
    if isinstance(found, InterlockError):
        raise found
    return found


def context(
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    bos_token: str | None = None,
    eos_token: str | None = None,
    variables: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """What a template reads of one conversation. Raises UsageError for one that is too long."""
    given = {"tools": None, "documents": None, **(variables or {})}  # transformers defines these two always, and templates test them against none
    given |= {name: token for name, token in (("bos_token", bos_token), ("eos_token", eos_token)) if token is not None}
    given |= {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
    size = len(json.dumps(given))
    if size > CONVERSATION_BYTES:
        raise UsageError(f"the conversation has {size} bytes, a prompt may have {CONVERSATION_BYTES}", remedy="drop or shorten its oldest messages")
    return given


def rendered(template: str, contexts: Sequence[dict[str, Json]], today: datetime.date | None = None) -> list[str | InterlockError]:
    """What one child makes of one or more contexts: the text of each, or the error that `render_chat` raises for it.

    Raises ChildFailed where the child came to a limit: whose fault that was is not known then. ContractError for a template that is too long.
    """
    size = len(template.encode("utf-8", "surrogatepass"))
    if size > TEMPLATE_BYTES:
        raise refuse("chat template", "", expected=f"at most {TEMPLATE_BYTES} bytes", found=f"{size} bytes", remedy=_REMEDY)
    request = {"template": template, "contexts": list(contexts), "today": today.isoformat() if today else None}
    replies = forks.call("runtime.engine.chat:render_in_child", request, limits=_LIMITS, ready="ready")
    assert isinstance(replies, list) and len(replies) == len(contexts)
    return [_result(reply) for reply in replies]


def _result(reply: dict[str, str]) -> str | InterlockError:
    if "refusal" in reply:
        return UsageError(f"the chat template refuses these messages: {reply['refusal']}", remedy="change the order or the roles of the messages")
    return reply["text"] if "text" in reply else unrendered(reply["failure"])


def unrendered(found: object) -> ContractError:
    """What is said of a template that gave no text."""
    return refuse("chat template", "", expected="a template that renders these messages", found=found, remedy=_REMEDY)


_REMEDY = "use a model with a sound template, or give the prompt as plain text"


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    variables: Mapping[str, Json] | None = None,
    today: datetime.date | None = None,
) -> list[int]:
    """The prompt ids of a conversation. Control tokens come from the template only: one that was typed in a message is encoded as characters.

    Typed ones are replaced before rendering by numbers that nobody can guess, and put back as text after the template's own tokens were found.
    A conversation without them is encoded as its plain rendering, id for id what transformers' `apply_chat_template` gives.
    Raises as `render_chat`, and UsageError where the model has no template.
    """
    veil = Veil(tokenizer.control_strings)
    tokens = context_tokens(tokenizer)
    text = render_chat(
        template_of(tokenizer),
        [veil.hide(message) for message in messages],
        add_generation_prompt=add_generation_prompt,
        variables=veil.hide(variables or {}),
        today=today,
        **tokens,
    )
    return tokenizer.encode_rendered(text, veil.reveal)


def template_of(tokenizer: Tokenizer) -> str:
    """Raises UsageError where the model has none."""
    if tokenizer.chat_template is None:
        raise UsageError("this model has no chat template", remedy="give the prompt as plain text")
    return tokenizer.chat_template


def context_tokens(tokenizer: Tokenizer) -> dict[str, str | None]:
    """The tokens that templates may write by name, as arguments of `render_chat` and `context`."""
    info = tokenizer.info
    return {"bos_token": tokenizer.token_string(info.bos_id), "eos_token": tokenizer.token_string(next(iter(info.eos_ids), None))}


class Veil:
    """Stands a secret number in for each control string of a conversation. Digits: no common filter (`trim`, `upper`) changes them."""

    def __init__(self, controls: Sequence[str]) -> None:
        self._controls = list(controls)
        self._nonce = f"{secrets.randbelow(10**_NONCE_DIGITS):0{_NONCE_DIGITS}d}"
        longest_first = sorted(self._controls, key=len, reverse=True)
        self._typed = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._veiled = re.compile(rf"{self._nonce}(\d{{6}})")

    def hide(self, value: Json) -> Json:
        """The same JSON value; keys too, since a tool's description may come from a stranger."""
        if isinstance(value, str) and self._typed is not None:
            return self._typed.sub(lambda found: f"{self._nonce}{self._controls.index(found[0]):06d}", value)
        if isinstance(value, Mapping):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.hide(item) for item in value]
        return value

    def reveal(self, text: str) -> str:
        return self._veiled.sub(lambda found: self._controls[int(found[1])], text)


def ready() -> None:
    """Before any child: a template of ours, so that Jinja has compiled the expressions that it reads templates with."""
    sample = "{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}{{ message['content']|trim }}{# #}{% endfor %}"
    render_in_child({"template": sample, "contexts": [{"messages": [{"content": "a"}]}], "today": None})


def render_in_child(request: dict[str, Json]) -> list[dict[str, str]]:
    """The child's side of `rendered`, for each context: `{"text"}`, `{"refusal"}` where the template called `raise_exception`, else `{"failure"}`."""

    class Refusal(Exception):
        pass

    def raise_exception(message: object) -> None:
        raise Refusal(str(message))

    environment = _environment()
    environment.globals["raise_exception"] = raise_exception
    if request["today"] is not None:
        environment.globals["strftime_now"] = datetime.date.fromisoformat(request["today"]).strftime
    template = environment.from_string(request["template"])

    def render(context: dict[str, Json]) -> dict[str, str]:
        pieces, length = [], 0
        try:
            for piece in template.generate(**context):
                length += len(piece)
                if length > _PROMPT_CHARS:
                    return {"failure": f"more than {_PROMPT_CHARS} characters of output"}
                pieces.append(piece)
        except Refusal as refusal:
            return {"refusal": sandbox.plain(str(refusal))}
        except MemoryError:
            raise  # of all contexts together: the caller tries fewer
        except Exception as error:
            return {"failure": sandbox.plain(f"{type(error).__name__}: {error}")}
        return {"text": "".join(pieces)}

    return [render(context) for context in request["contexts"]]


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up (block trimming, `tojson`, loop controls, the `generation` block), with less in it and no quiet escapes."""
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}` marks the assistant's words for training masks: here its body is all there is to it."""

        tags = {"generation"}  # noqa: RUF012 - the base class declares an instance attribute

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    class Environment(ImmutableSandboxedEnvironment):
        def unsafe_undefined(self, obj: object, attribute: str) -> Any:
            # Jinja would render an empty string; a template that reaches for this is hostile and must not pass.
            raise SecurityError(f"access to attribute {attribute!r} of a {type(obj).__name__}")

    class PlainNamespace(Namespace):
        """A name that starts with an underscore could stand in for a Python attribute and mislead the sandbox (transformers forbids it, too)."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            values = dict(*args, **kwargs)
            super().__init__()
            for name, value in values.items():
                self[name] = value

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise SecurityError(f"a namespace attribute {name!r}")
            super().__setitem__(name, value)

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    for name in ("lipsum", "cycler", "joiner"):  # functions of jinja2 whose globals hold modules; no published template uses them
        del environment.globals[name]
    environment.globals["namespace"] = PlainNamespace
    environment.filters["tojson"] = _tojson
    return environment


def _tojson(
    value: Json, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None, sort_keys: bool = False
) -> str:
    """Jinja's own filter escapes for HTML; transformers replaces it by this, and templates are written for that."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
