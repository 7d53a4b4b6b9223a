"""What an answer may be: each next token is one that a JSON schema, a regular expression, a grammar or a list of choices still allows.

Here: from a description to what a turn asks (protocol.py): descriptions (sources.py), JSON schema's keywords (keywords.py), the tokenizer's bytes
(vocabulary.py), the compiled form (compiled.py). Not here: the token loop (turn.py), tools (runtime/tools).
Automata, parser and masks are llguidance's: https://github.com/guidance-ai/llguidance.
"""
