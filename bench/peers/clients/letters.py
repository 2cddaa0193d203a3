"""A tokenizer of one byte a token, in the folder named: what the peers come with is downloaded."""

import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
letters = Tokenizer(models.BPE(alphabet, []))
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
letters.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=letters).save_pretrained(sys.argv[1])
