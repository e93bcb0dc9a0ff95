# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the models of families_extra: what no model of families has, at the smallest size.

mistral_window slides a window of 8 tokens; olmoe_clip clips queries, keys and values at 0.5. Both
are random models with weights large enough that the window and the clip change the logits, which
this script checks. It writes expected.safetensors as families has it: input_ids, hidden.i, logits
and greedy, in float32.

Needs torch and transformers (2.15 and 5.23 were used). Usage: make_window_fixture.py
"""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import MistralConfig, MistralForCausalLM, OlmoeConfig, OlmoeForCausalLM

FOLDER = pathlib.Path(__file__).resolve().parent / "families_extra"
NUM_SEQUENCES = 2
NUM_TOKENS = 40
NUM_NEW_TOKENS = 24
# Greedy tokens are comparable only where the best logit leads by more than rounding can move it.
SMALLEST_LEAD = 0.01

COMMON = dict(
    vocab_size=96,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=128,
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)


def mistral(window):
    config = MistralConfig(
        **COMMON, intermediate_size=48, num_key_value_heads=2, head_dim=8, sliding_window=window
    )
    config._attn_implementation = "eager"
    return MistralForCausalLM(config)


def olmoe(clip):
    config = OlmoeConfig(
        **COMMON,
        intermediate_size=24,
        num_key_value_heads=4,
        num_experts=4,
        num_experts_per_tok=2,
        clip_qkv=clip,
    )
    config._attn_implementation = "eager"
    return OlmoeForCausalLM(config)


def randomise(model, generator):
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.copy_(1.0 + 0.1 * noise)
        elif "embed_tokens" in name or "lm_head" in name:
            parameter.copy_(noise)
        else:
            parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)


def greedy_tokens(model, input_ids):
    """The greedy continuation and the smallest lead of a best logit over the second."""
    ids = input_ids
    lead = float("inf")
    for _ in range(NUM_NEW_TOKENS):
        best = model(ids, use_cache=False).logits[:, -1].topk(2, dim=-1)
        lead = min(lead, (best.values[:, 0] - best.values[:, 1]).min().item())
        ids = torch.cat([ids, best.indices[:, :1]], dim=1)
    return ids[:, input_ids.shape[1] :], lead


def make(name, build, value):
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        model = build(value).eval()
        randomise(model, generator)
        ids = torch.randint(3, COMMON["vocab_size"], (NUM_SEQUENCES, NUM_TOKENS), generator=generator)
        greedy, lead = greedy_tokens(model, ids)
        if lead > SMALLEST_LEAD:
            break
    else:
        raise SystemExit(f"{name}: no seed gives greedy tokens that lead by {SMALLEST_LEAD}")

    output = model(ids, use_cache=False, output_hidden_states=True)
    plain = build(None).eval()
    plain.load_state_dict(model.state_dict())
    difference = (plain(ids, use_cache=False).logits - output.logits).abs().max().item()
    scale = output.logits.abs().max().item()
    print(f"{name}: seed {seed}, lead {lead:.4f}, the option moves logits by {difference / scale:.3f}")
    if difference < 0.05 * scale:
        raise SystemExit(f"{name}: the option hardly changes the logits")

    folder = FOLDER / name
    model.save_pretrained(folder)
    tensors = {f"hidden.{i}": hidden for i, hidden in enumerate(output.hidden_states)}
    tensors |= {"input_ids": ids, "logits": output.logits, "greedy": greedy}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        make("mistral_window", mistral, 8)
        make("olmoe_clip", olmoe, 0.5)
