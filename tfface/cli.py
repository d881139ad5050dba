"""Commands: one verb per module, each with `main(argv) -> int`, and error reporting."""

from __future__ import annotations

import argparse
import errno
import functools
import importlib
import logging
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfface.config import nearest
from tfface.errors import Interrupted, UserError

VERBS = {
    "train": "train a method, or continue a run",
    "edit": "edit images with a trained or served model",
    "app": "open a web page to edit faces with",
    "models": "list the trained models shipped with tfface",
    "evaluate": "evaluate a run on held-out people, and write a report",
    "tune": "search for the best hyperparameters of a method",
    "export": "export a run as a SavedModel for TF Serving",
    "serve": "serve SavedModels with TF Serving's APIs",
    "align": "cut aligned faces out of photographs, for training",
    "prepare": "preview or prepare a data set",
    "convert": "convert the authors' checkpoints to a run",
    "demo": "train, export, serve and evaluate on built-in faces, and write a report",
}


def command(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Turns errors of a verb into exit statuses: 2, with one line on stderr, for a UserError.

    Ctrl-C gives 130; a signal that stops a training gives 128 plus its number; a pipe whose reader
    has left, 141 without a message.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        try:
            status = main(argv) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            if not _reader_has_left():
                raise
            return 128 + signal.SIGPIPE
        except Interrupted as stopped:
            print(stopped, file=sys.stderr)
            return stopped.status
        except UserError as error:
            message, status = str(error), 2
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            message, status = f"the disk is full: {error.filename or error}", 2
        except KeyboardInterrupt:
            message, status = "interrupted", 130
        verb = main.__module__
        if verb == "__main__":  # With `python -m`, or as a script, which has no specification.
            verb = spec.name if (spec := main.__globals__["__spec__"]) else Path(sys.argv[0]).name
        print(f"{verb}: error: {message}", file=sys.stderr)
        return status

    return run


def _reader_has_left() -> bool:
    """Whether nobody reads stdout any more, as after `| head`; if so, it is closed for good."""
    pipe = select.poll()
    pipe.register(sys.stdout, 0)  # Errors, which are always reported.
    if not pipe.poll(0):
        return False
    # Python flushes once more when it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def program(verb: str) -> str:
    """How the user started a verb: with the console command `tfface`, or with `python -m`."""
    return f"tfface {verb}" if Path(sys.argv[0]).stem == "tfface" else f"python -m tfface.{verb}"


class Parser(argparse.ArgumentParser):
    """Parses the command line of a verb, without abbreviations; mistakes raise a UserError.

    Args:
        verb: Name of the module within tfface; None for a sub-command, which argparse names.
        word: Word for an option in messages.
        **options: Arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, verb: str | None = None, word: str = "option", **options: Any):
        if verb:
            options["prog"] = program(verb)
        super().__init__(allow_abbrev=False, **options)
        self._word = word

    def parse_known_args(self, args=None, namespace=None):
        """Like the overridden method, which argparse also calls for sub-commands; accepts no rest.

        Unknown options are reported first: a misspelt option often causes the other errors.
        """
        words = sys.argv[1:] if args is None else list(args)
        known = self._option_string_actions
        for word in words:
            name = word.split("=")[0]
            if name == "--" or (self._subparsers and not name.startswith("-")):
                break  # The rest are no options, or options of a sub-command.
            if name.startswith("--") and name not in known:
                self.error(f"unknown {self._word} {name}{nearest(name, known)}")
        namespace, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def error(self, message: str):
        """Raises a UserError, which `command` prints."""
        raise UserError(message)


def server_address(text: str) -> str:
    """Parses the address of a server, HOST:PORT or http://HOST:PORT."""
    if "://" not in text and not re.fullmatch(r".+:\d+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected HOST:PORT (gRPC) or http://HOST:PORT (REST)"
        )
    return text


def port_number(text: str) -> int:
    """Parses a port, 0 to 65535."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 65535")
    return int(text)


def wait_for(event: threading.Event) -> None:
    """Blocks the main thread until an event is set, and lets handlers of signals run.

    Python runs them in the main thread, which a signal that the system gives to another thread does
    not wake: it looks once a second.
    """
    while not event.wait(1.0):
        pass


def import_tensorflow() -> None:
    """Imports TensorFlow and lists devices, without the notes that its libraries print on stderr.

    No setting suppresses these notes. Errors are still raised as exceptions. oneDNN is enabled:
    TensorFlow disables it on CPUs without AVX-512, although it doubles the speed there, too.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules:
        _import_quietly()
    # In notebooks TensorFlow sets the level INFO, and logs every file that is written or read.
    tensorflow = logging.getLogger("tensorflow")
    tensorflow.setLevel(max(tensorflow.level, logging.WARNING))


def _import_quietly() -> None:
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def aligned(cells: list[list[str]]) -> str:
    """Formats a table for a terminal, with aligned columns."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def main() -> int:
    """The console command `tfface VERB ...`."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: tfface VERB ...\n\nverbs (see tfface VERB --help):")
        for verb, purpose in VERBS.items():
            print(f"  {verb:8}  {purpose}")
        return 0
    verb = sys.argv[1]
    if verb == "--version":
        from tfface.version import __version__

        print(__version__)
        return 0
    if verb not in VERBS:
        print(
            f"tfface: error: unknown verb {verb!r}{nearest(verb, VERBS)}; "
            f"expected one of {', '.join(VERBS)}",
            file=sys.stderr,
        )
        return 2
    return importlib.import_module(f"tfface.{verb}").main(sys.argv[2:])
