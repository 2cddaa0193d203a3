"""NVIDIA's AIPerf against its endpoint type `messages`."""

import json
import os
import subprocess
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# One byte a token: AIPerf's own tokenizers (`--tokenizer builtin`) are downloaded, this one is not.
letters = Tokenizer(
    models.BPE(
        {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []
    )
)
letters.pre_tokenizer, letters.decoder = (
    pre_tokenizers.ByteLevel(add_prefix_space=False),
    decoders.ByteLevel(),
)
PreTrainedTokenizerFast(tokenizer_object=letters).save_pretrained("letters")

COMMAND = """aiperf profile --endpoint-type messages --request-count 4
  --concurrency 1 --isl 200 --osl 40
    --tokenizer ./letters --ui-type none --use-server-token-count"""


def profile(*flags):
    where = [
        "--url",
        os.environ["ANTHROPIC_BASE_URL"],
        "--api-key",
        os.environ["ANTHROPIC_API_KEY"],
    ]
    done = subprocess.run(
        [
            *COMMAND.split(),
            *where,
            "--model",
            os.environ["LAB_MODEL"],
            "--output-artifact-dir",
            "profile",
            *flags,
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return json.loads(next(Path("profile").rglob("profile_export_aiperf.json")).read_text())


def hello():
    return profile()["request_count"]["avg"]


def stream():
    return profile("--streaming")["time_to_first_token"]["count"]
