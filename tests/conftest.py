"""Settings that must be made before TensorFlow is imported."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN reorders float32 sums, which takes golden gradients further from their figures. `make demo`
# and every run of a user have it on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# The suite runs in several processes at once.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
