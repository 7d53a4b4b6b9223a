"""An OpenAI-compatible server over one model: requests in, generations of the scheduler out.

Here: HTTP and its documents (requests.py, answers.py), what joins them to the engine (running.py), the application and the process around it.
Not here: running many generations (runtime/engine/scheduler.py), the verb (pipeline/verbs/serve.py).
"""
