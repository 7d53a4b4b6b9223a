"""What a client may ask: the bodies of the OpenAI interface, strictly. What is not supported is refused by name and never ignored.

Here: fields, ranges, what a parameter may be although nothing is done about it. Not here: running it (running.py), the answer (answers.py).
Source: platform.openai.com/docs/api-reference, `chat/create` and `completions/create`; `top_k`, `min_p`, `repetition_penalty` as vLLM names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interlock.contracts.strict import parse_json, validated
from interlock.errors import ContractError
from runtime.serving.refusals import Refused

BODY_BYTES = 4 << 20
MOST_CHOICES = 16
# Parameters of the interface that this server has no means for, each with the values that ask for nothing. `null` always asks for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (), "best_of": (1,), "echo": (False,), "frequency_penalty": (0,), "function_call": ("none",), "functions": ([],), "logit_bias": ({},),
    "metadata": ({},), "modalities": (["text"],), "moderation": (), "prediction": (), "presence_penalty": (0,), "prompt_cache_key": (),
    "prompt_cache_retention": (), "reasoning_effort": ("none",), "safety_identifier": (), "service_tier": ("auto", "default"), "store": (False,),
    "suffix": ("",), "verbosity": (), "web_search_options": (),
}  # fmt: skip


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """include_state: chunks tell of latent slots and the halt head, too (an extension)."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False
    include_state: bool = False


class TextPart(_Body):
    type: Literal["text"]
    text: str


class CalledFunction(_Body):
    name: str
    arguments: str


class ToolCall(_Body):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(_Body):
    """refusal: as it stands in every answer, which clients send back; type: as lm_eval writes it beside a text."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=1000)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: str | None = None
    refusal: None = None
    type: Literal["text"] | None = None

    @model_validator(mode="after")
    def _suits_its_role(self) -> Message:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant has `tool_calls`")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of role `tool`, and no other, has a `tool_call_id`")
        if self.content is None and not self.tool_calls:
            raise ValueError("a message has `content`")
        return self

    @property
    def of_tools(self) -> bool:
        return self.role == "tool" or bool(self.tool_calls)

    def plain(self) -> dict[str, Any]:
        """As a chat template takes it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        more: dict[str, Any] = {"tool_calls": [call.model_dump() for call in self.tool_calls]} if self.tool_calls else {}
        more |= {"tool_call_id": self.tool_call_id} if self.tool_call_id is not None else {}
        return {"role": "system" if self.role == "developer" else self.role, "content": content, **more}


class NamedSchema(_Body):
    """strict: either way the answer is held to the schema."""

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class AsText(_Body):
    type: Literal["text"]


class AsObject(_Body):
    type: Literal["json_object"]


class AsSchema(_Body):
    type: Literal["json_schema"]
    json_schema: NamedSchema


Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class _Generating(_Body):
    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    top_k: Annotated[int, Field(ge=0)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> _Generating:
        if self.stream_options and not self.stream:
            raise ValueError("`stream_options` belongs to `stream`: true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def told(self) -> int | None:
        """How many of the likeliest tokens are told with each; None: no log-probabilities."""
        raise NotImplementedError


class ChatRequest(_Generating):
    """refine: whether the answer may be given again until the model's judge or halt head is content (an extension)."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    response_format: Annotated[AsText | AsObject | AsSchema, Field(discriminator="type")] = AsText(type="text")
    refine: bool = False

    @model_validator(mode="after")
    def _agree(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("`top_logprobs` belongs to `logprobs`: true")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("`max_tokens` and `max_completion_tokens` are two names of one limit, and differ")
        if self.tools and not isinstance(self.response_format, AsText):
            raise ValueError("`tools` and a `response_format` at the same time are not supported")
        if self.refine and (excluded := [name for name, given in self._beside_one_answer() if given]):
            raise ValueError(f"`refine` and `{excluded[0]}` at the same time are not supported")
        return self

    def _beside_one_answer(self) -> Iterator[tuple[str, bool]]:
        """What does not go with an answer of which only the best attempt is told, and whether it is asked."""
        yield from (("stream", self.stream), ("n", self.n > 1), ("logprobs", self.logprobs), ("tools", bool(self.tools)))
        yield "tool_calls", any(message.of_tools for message in self.messages)

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def told(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Prompts = Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES)]


class CompletionRequest(_Generating):
    """echo: each text begins with its prompt, and `logprobs` are told of the prompt's tokens, too."""

    prompt: str | Prompts | Ids | Annotated[list[Ids], Field(min_length=1, max_length=MOST_CHOICES)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool = False

    @model_validator(mode="after")
    def _echo_is_whole(self) -> CompletionRequest:
        if self.echo and self.stream:
            raise ValueError("`echo` and `stream` at the same time are not supported")
        return self

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """Texts, or ids of tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt  # one kind in each list

    @property
    def told(self) -> int | None:
        return self.logprobs


BodyT = TypeVar("BodyT", bound=_Generating)


def read(kind: type[BodyT], data: bytes) -> BodyT:
    """A body as what it asks. Raises Refused with everything that is wrong."""
    remedy = "see /openapi.json for what can be asked"
    try:
        document = parse_json(data, "the request", limit=BODY_BYTES, remedy=remedy)
    except ContractError as error:
        raise Refused(400, error.problem, remedy=remedy) from None
    document = {
        name: _whole(value) for name, value in document.items() if value is not None or not (name in UNSUPPORTED or name in kind.model_fields)
    }
    for name in [name for name in document if name in UNSUPPORTED and name not in kind.model_fields]:
        if not any(document[name] == value and type(document[name]) is type(value) for value in UNSUPPORTED[name]):
            raise Refused(400, f"`{name}` is not supported by this server", remedy="leave it out", param=name, code="unsupported_parameter")
        del document[name]
    valid, wrong = validated(kind, document, "the request")
    if valid is None:
        told = "; ".join(f"`{_param(one.where)}`: {one.expected}, found {one.found}" if _param(one.where) else one.expected for one in wrong[:10])
        unknown = any(_param(one.where) not in kind.model_fields for one in wrong[:1] if one.where.count("/") == 1 and one.where != "/")
        deepest = max((_param(one.where) for one in wrong), key=lambda param: param.count("[") + param.count("."))
        raise Refused(400, told, remedy=remedy, param=deepest or None, code="unknown_parameter" if unknown else None)
    return valid


def _whole(value: Any) -> Any:
    """A number, or a list of them, as JSON Schema takes it: 3.0 is an integer."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _param(where: str) -> str:
    """`/messages/0/content/str` as `messages[0].content`; the alternatives of a type are ours and not a client's."""
    steps = [step for step in where.split("/") if step and not re.fullmatch(r"str|(list|dict|literal)\[.*|(function|constrained)-.*", step)]
    return "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in steps).removeprefix(".")
