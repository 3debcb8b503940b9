"""Tiny random models of the architectures that late echo is promised for, each made from its config class."""

import tokenizers
import torch
import transformers as tf

from echo_embeddings.forward.backbone import Backbone
from echo_embeddings.forward.speed import switches
from echo_embeddings.model.loading import LoadedModel

_SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_ALTERNATING = ["sliding_attention", "full_attention"] * 3


def _config(kind, without=(), **more):
    return kind(**{key: value for key, value in (_SIZES | more).items() if key not in without})


CONFIGS = {
    "llama": _config(tf.LlamaConfig),
    "mistral": _config(tf.MistralConfig, sliding_window=None),
    "mistral-window": _config(tf.MistralConfig, sliding_window=7),
    "qwen2": _config(tf.Qwen2Config),
    "qwen3": _config(tf.Qwen3Config),
    "gemma2": _config(tf.Gemma2Config, sliding_window=7, layer_types=_ALTERNATING, query_pre_attn_scalar=8),
    "gemma3": _config(tf.Gemma3TextConfig, sliding_window=7, layer_types=_ALTERNATING, query_pre_attn_scalar=8),
    "phi3": _config(tf.Phi3Config, without=["head_dim"]),
    "olmo2": _config(tf.Olmo2Config),
    "smollm3": _config(tf.SmolLM3Config),
    "gpt-neox": _config(tf.GPTNeoXConfig, without=["num_key_value_heads", "head_dim"]),
    "gpt2": tf.GPT2Config(
        vocab_size=97, n_embd=32, n_layer=6, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2
    ),
}
#: Late echo cannot run on it: most of its layers keep a state instead of attending to tokens.
HYBRID = tf.Qwen3NextConfig(
    vocab_size=97, hidden_size=32, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    intermediate_size=48, linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=8,
    linear_value_head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
    shared_expert_intermediate_size=16,
)  # fmt: skip


def tiny(name: str, **changes):
    """The body of a tiny random model in float32, always with the same weights."""
    config = CONFIGS[name].__class__(**(CONFIGS[name].to_dict() | changes))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = tf.AutoModel.from_config(config)
        # At their default scale random weights hardly mix the tokens; a reference could not tell right from wrong.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.25)
    return model.eval()


def backbone(model, layers):
    """A backbone with the faster ways that suit the model as it is."""
    return Backbone(model, layers, switches.apply(LoadedModel(model, None)))


def small_tokenizer(texts):
    """A fast tokenizer of 90 tokens, fitted on some texts."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=90, special_tokens=["<pad>", "<s>", "</s>"])
    tokenizer.train_from_iterator(texts, trainer)
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def word_tokenizer(texts, size=6000):
    """A small tokenizer like the built-in model's: it reads every byte, and most words of some texts are tokens of it.

    The built-in model's has 49,152 tokens, which take half a second to copy, to save or to load.
    """
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[1], eos_token=special[2], pad_token=special[2]
    )
