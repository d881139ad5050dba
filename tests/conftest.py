"""Settings that must be made before TensorFlow is imported."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN reorders float32 sums, which takes golden gradients further from their figures. `make demo`
# and every run of a user have it on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# The suite runs in several processes at once. One thread each for an operation: on some processors
# two add up in the order in which they end, and results differ in the last bit.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
