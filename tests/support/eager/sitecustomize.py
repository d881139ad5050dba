"""Commands of tfface with this folder on PYTHONPATH run eagerly: a few steps end sooner so."""

from tfface import cli

_imported = cli.import_tensorflow


def _import_tensorflow():
    _imported()
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    tf.data.experimental.enable_debug_mode()


cli.import_tensorflow = _import_tensorflow
