"""Tools: functions that a model may ask for, from their definitions to the calls in its reply.

Here: definitions and the choice among them (definitions.py), how they are told to a model (prompt.py), the grammar that holds a reply to them
(grammar.py), calls in a text, whole (calls.py) or as it comes (stream.py), one reply (reply.py). Not here: running a tool, the HTTP interface.
Definitions, choices and streamed pieces have the form of OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat
"""
