"""`python -m eval.cli`: the deployment guide's entry to `eval`, in its words and with its environment variables.

Here: the guide's flags as those of the verb, and its two files made of what the verb leaves. Not here: evaluating: the verb runs in a process of its
own, because rooms import one way and this one stands below the pipeline.
EVAL_LATENT=1 asks suite `latent`, EVAL_CODE_MODE=1 lets programs of the model call the tools. Of runner openai_http OPENAI_BASE_URL is the
address and `--model` the model's name there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from eval.runners import NAMES
from interlock.command import guarded, parser, words
from interlock.errors import GateFailed, InterlockError
from interlock.fs import save_file

BASE_URL = "https://api.openai.com/v1"  # the guide's own default
GATE = GateFailed.exit_code


def main(argv: list[str] | None = None) -> int:
    given = words(argv)
    return guarded(lambda: _run(given), json_output="--json" in given)


def _run(given: list[str]) -> int:
    args = _parser().parse_args(given)
    directory = args.report.with_name(f"{args.report.stem}-evaluation")
    over_http = args.runner == "openai_http"
    model = [os.environ.get("OPENAI_BASE_URL") or BASE_URL, "--model-name", args.model] if over_http else [args.model]
    command = [sys.executable, "-I", "-m", "pipeline.here", "eval", *model, _suite(args), "--out", str(directory)]
    command += ["--runner", args.runner, "--jobs", str(args.jobs)]
    command += ["--dataset", str(args.dataset)] if args.dataset else []
    command += ["--fixtures", str(args.fixtures)] if args.fixtures else []
    command += ["--max-new-tokens", str(args.max_tokens)] if args.max_tokens else []
    command += ["--toy"] if args.toy else []
    command += ["--code-mode"] if os.environ.get("EVAL_CODE_MODE") == "1" else []
    if args.num_shards > 1:
        command[command.index("--out") + 1] = str(args.out.parent)
        return subprocess.run([*command, "--shard", f"{args.shard_index + 1}/{args.num_shards}"], check=False).returncode
    code = subprocess.run(command, check=False).returncode
    if code not in (0, GATE):
        return code
    _write(args, directory if code == 0 else directory.parent / "rejected" / directory.name, code)
    return code if args.fail_on_gate_failure else 0


def _parser() -> argparse.ArgumentParser:
    example = "python -m eval.cli --runner orchestrator --model models/student/deployed --out results.jsonl --report report.json"
    made = parser("python -m eval.cli", "ask a model a suite of questions, in the deployment guide's words", example)
    made.add_argument("--runner", choices=NAMES, required=True, help="as `interlock eval --help` explains them")
    made.add_argument("--model", required=True, help="a deployed directory; of openai_http a name at OPENAI_BASE_URL, of hf_local a directory")
    made.add_argument(
        "--in", dest="dataset", type=Path, metavar="DIR", help="a dataset directory, its tools and fixtures in it (default: the suite's)"
    )
    made.add_argument("--fixtures", type=Path, metavar="DIR", help="a dataset directory whose tools are replayed in place of those of --in")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="results, one JSON object per line")
    made.add_argument("--report", type=Path, required=True, metavar="FILE", help="report in JSON; the evaluation is kept beside it")
    made.add_argument("--suite", help="default: contextual, or latent with EVAL_LATENT=1")
    made.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of an answer (default: the suite's)")
    made.add_argument("--num-shards", type=int, default=1, metavar="N", help="parts of a run; each leaves its answers beside --out")
    made.add_argument("--shard-index", type=int, default=0, metavar="I", help="which of them, from 0")
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that answer at once (default %(default)s)")
    made.add_argument("--fail-on-gate-failure", action=argparse.BooleanOptionalAction, default=True, help="exit 6 where a gate is not shown")
    made.add_argument("--toy", action="store_true", help="allow toy artifacts")
    return made


def _suite(args: argparse.Namespace) -> str:
    return args.suite or ("latent" if os.environ.get("EVAL_LATENT") == "1" else "contextual")


def _write(args: argparse.Namespace, directory: Path, code: int) -> None:
    try:
        results, told = (directory / "results.jsonl").read_bytes(), json.loads((directory / "summary.json").read_bytes())
    except OSError as error:
        raise InterlockError(f"`{directory}` holds no evaluation ({error.strerror})", remedy="see the lines above") from None
    save_file(args.out, results)
    report = {"header": {"report_version": "2.0.0", "evaluation": str(directory)}, "summary": told, "gates_ok": code == 0}
    save_file(args.report, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    sys.exit(main())
