"""Running code that a model wrote: nobody has read it before, so it gets nothing that it does not need.

Here: what holds it (limits, a filter of system calls, Landlock, bubblewrap), the pipe by which it asks for something. Not here: what it may ask for
(eval/broker), trusted commands (runtime/engine/commands.py), functions of this project over hostile input (runtime/engine/sandbox.py).
"""
