#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
"""Prefill and decode speed of pikv and of transformers, on one machine in one run.

Both sides get the same shapes, the same number of threads and random prompts, and are measured in
turn, several rounds, so that a drift of the machine meets both. Both compute in float32 and in
bfloat16. transformers runs eagerly with its own KV cache, with each of its two attention
implementations and expert implementations that this version offers; its fastest median counts.

    pip install torch transformers
    tests/bench/compare_transformers.py --pikv build/release/launch/pikv --model models/tiny-moe
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time


DTYPES = {"float32": "f32", "bfloat16": "bf16"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pikv", required=True, help="the pikv program")
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--context", type=int, default=2048, help="prompt tokens a sequence")
    parser.add_argument("--decode-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pikv-options", default="", help="further options of pikv, in one string")
    return parser.parse_args()


def run_pikv(arguments, batch, dtype):
    """Tokens/s of prefill and decode: one measured run after one that warms up."""
    command = [arguments.pikv, "bench", "--model", arguments.model, "--batch", str(batch),
               "--context", str(arguments.context), "--decode-tokens", str(arguments.decode_tokens),
               "--repeat", "1", "--threads", str(arguments.threads), "--compute-dtype", dtype,
               "--json", *arguments.pikv_options.split()]
    time.sleep(1.0)  # idle threads of torch spin for some time after their last work
    row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["rows"][0]
    return row["prefill_tokens_per_s"]["median"], row["decode_tokens_per_s"]["median"]


class Transformers:
    """One model in one configuration."""

    def __init__(self, path, dtype, attention, experts):
        import torch
        from transformers import AutoModelForCausalLM

        self.torch = torch
        self.name = f"{str(dtype).removeprefix('torch.')}, {attention}, {experts}"
        self.model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation=attention, experts_implementation=experts).eval()

    def run(self, batch, context, decode_tokens):
        torch = self.torch
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.model.config.vocab_size, (batch, context), generator=generator)
        with torch.inference_mode():
            start = time.perf_counter()
            out = self.model(ids, use_cache=True, logits_to_keep=1)
            prefill = time.perf_counter() - start
            token = out.logits[:, -1:].argmax(-1)
            start = time.perf_counter()
            for _ in range(decode_tokens - 1):
                out = self.model(token, past_key_values=out.past_key_values, use_cache=True)
                token = out.logits[:, -1:].argmax(-1)
            decode = time.perf_counter() - start
        return batch * context / prefill, batch * (decode_tokens - 1) / decode


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def main():
    arguments = parse_arguments()
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    print(f"{platform.platform()}, {arguments.threads} threads, torch {torch.__version__}, "
          f"transformers {transformers.__version__}, {arguments.rounds} rounds, "
          f"{arguments.context} prompt and {arguments.decode_tokens} decode tokens, "
          f"pikv options '{arguments.pikv_options}'")
    peers = []
    for dtype, attention, experts in itertools.product(
            (getattr(torch, dtype) for dtype in DTYPES), ("sdpa", "eager"), ("eager", "grouped_mm")):
        try:
            peer = Transformers(arguments.model, dtype, attention, experts)
            peer.run(1, 64, 4)
            peers.append(peer)
        except (ValueError, RuntimeError, TypeError) as error:
            print(f"transformers ({dtype}, {attention}, {experts}) does not run: {error}",
                  file=sys.stderr)

    for batch in arguments.batch:
        figures = {}
        for peer in peers:  # warm up
            peer.run(batch, arguments.context, 4)
        for _ in range(arguments.rounds):
            for dtype, short in DTYPES.items():
                figures.setdefault(f"{dtype}, pikv", []).append(run_pikv(arguments, batch, short))
            for peer in peers:
                figures.setdefault(peer.name, []).append(
                    peer.run(batch, arguments.context, arguments.decode_tokens))
        print(f"\nbatch {batch}\n{'':<32} {'prefill tokens/s':>30} {'decode tokens/s':>30}")
        for name, runs in figures.items():
            prefill, decode = zip(*runs)
            print(f"{name:<32} {spread(prefill):>30} {spread(decode):>30}")
        for dtype, (index, phase) in itertools.product(DTYPES, enumerate(("prefill", "decode"))):
            def median(name):
                return statistics.median(run[index] for run in figures[name])

            best = max((name for name in figures if name.startswith(dtype) and "pikv" not in name),
                       key=median)
            print(f"{phase} in {dtype}: pikv is {median(f'{dtype}, pikv') / median(best):.2f} times "
                  f"as fast as the fastest ({best})")


if __name__ == "__main__":
    main()
