"""Commands: one verb per module, each with `main(argv) -> int`; how mistakes are told."""

from __future__ import annotations

import argparse
import errno
import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfface.config import nearest
from tfface.errors import Interrupted, UserError

VERBS = {
    "train": "train a method, or continue a run",
    "edit": "edit images with a trained model, or through a server",
    "models": "list the trained models that come with tfface",
    "evaluate": "measure a run on held-out people, and write a report",
    "tune": "search for the best options of a method",
    "export": "write a run as a SavedModel for TF Serving",
    "serve": "serve SavedModels over TF Serving's APIs",
    "prepare": "look at a data set, or make one",
    "convert": "write the authors' checkpoints as a run",
    "demo": "train, export, serve and edit built-in faces, and write a report",
}


def command(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Gives a verb its exit status: 2 and one line on stderr for a mistake of the user.

    Ctrl-C ends with 130, and any signal that a training answers with 128 and its number.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        try:
            return main(argv) or 0
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
        verb = (
            main.__module__ if main.__module__ != "__main__" else main.__globals__["__spec__"].name
        )
        print(f"{verb}: error: {message}", file=sys.stderr)
        return status

    return run


def program(verb: str) -> str:
    """How the user has started a verb: by the console command `tfface`, or with `python -m`."""
    return f"tfface {verb}" if Path(sys.argv[0]).stem == "tfface" else f"python -m tfface.{verb}"


class Parser(argparse.ArgumentParser):
    """Parses the command line of a verb: options are spelt out, and a mistake is a UserError.

    Args:
        verb: The module within tfface; None: a sub-command's parser, which argparse names.
        word: What messages call an option.
        **options: As of `argparse.ArgumentParser`.
    """

    def __init__(self, verb: str | None = None, word: str = "option", **options: Any):
        if verb:
            options["prog"] = program(verb)
        super().__init__(allow_abbrev=False, **options)
        self._word = word

    def parse_known_args(self, args=None, namespace=None):
        """As the overridden one, of which argparse makes use for sub-commands too; leaves no rest.

        Unknown options are told before anything else: a misspelt one explains what else is wrong.
        """
        words = sys.argv[1:] if args is None else list(args)
        known = self._option_string_actions
        for word in words:
            name = word.split("=")[0]
            if name == "--" or (self._subparsers and not name.startswith("-")):
                break  # What follows are no options, or those of a sub-command.
            if name.startswith("--") and name not in known:
                self.error(f"unknown {self._word} {name}{nearest(name, known)}")
        namespace, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def error(self, message: str):
        """Raises a UserError, which `command` tells."""
        raise UserError(message)


def import_tensorflow() -> None:
    """Imports TensorFlow and finds the devices, without the notes its libraries write on stderr.

    They are written before any setting can hold them back. Errors come as exceptions all the same.
    oneDNN is on: TensorFlow leaves it off on CPUs without AVX-512, where it is twice as fast too.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules:
        _import_quietly()
    # TensorFlow sets INFO in notebooks, where it then tells of every file that is written or read.
    logging.getLogger("tensorflow").setLevel(logging.WARNING)


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
    """A table for a terminal."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def main() -> int:
    """The console command `tfface VERB ...`."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: tfface VERB ...\n\nverbs (tfface VERB --help tells more):")
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
