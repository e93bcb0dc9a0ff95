#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
r"""Prefill and decode speed of pikv and of transformers, on one machine in one run.

Both sides get the same shapes, the same number of threads and random prompts, and are measured in
turn, several rounds, so that a drift of the machine meets both. Both compute in float32 and in
bfloat16. transformers runs eagerly with its own KV cache, with each of its two attention
implementations and expert implementations that this version offers; its fastest median counts.

    pip install torch transformers
    tests/bench/compare_transformers.py --pikv build/release/launch/pikv --model models/tiny-moe

With --shape there are no weights to read: both sides fill them, in bfloat16, and the keys and values
of the context with random numbers, and time decode steps, each with its greedy tokens on the host
(bench-decode). pikv runs first and ends, for a GPU may not have room for two such models.

    tests/bench/compare_transformers.py --shape models/shapes/qwen3-30b-a3b --device cuda \
        --context 8192,32768
"""

import argparse
import gc
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time


DTYPES = {"float32": "f32", "bfloat16": "bf16"}


WARM_UP = 5  # decode steps, as bench-decode has them


def integers(text):
    return [int(item) for item in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pikv", default="build/release/launch/pikv", help="the pikv program")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="model directory")
    what.add_argument("--shape", help="folder of a config.json; random weights, decode alone")
    parser.add_argument("--device", default="cpu", help="of a shape: cpu or cuda")
    parser.add_argument("--batch", type=int, nargs="+", help="[1 8; of a shape 1]")
    parser.add_argument("--context", type=integers, default=[2048],
                        help="prompt tokens a sequence; of a shape a list: 8192,32768")
    parser.add_argument("--steps", type=int, default=20, help="of a shape, after 5 that warm up")
    parser.add_argument("--decode-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pikv-options", default="", help="further options of pikv, in one string")
    arguments = parser.parse_args()
    if arguments.model and (len(arguments.context) > 1 or arguments.device != "cpu"):
        parser.error("--model takes one --context, on the CPU")
    if not os.access(arguments.pikv, os.X_OK):
        parser.error(f"--pikv: {arguments.pikv} is no program")
    arguments.batch = arguments.batch or ([1, 8] if arguments.model else [1])
    return arguments


def run_pikv(arguments, batch, dtype):
    """Tokens/s of prefill and decode: one measured run after one that warms up."""
    command = [arguments.pikv, "bench", "--model", arguments.model, "--batch", str(batch),
               "--context", str(arguments.context[0]), "--decode-tokens", str(arguments.decode_tokens),
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


def bench_pikv(arguments):
    """Of a shape: milliseconds of a step (median, least, most) by (batch, context)."""
    command = [arguments.pikv, "bench-decode", "--shape", arguments.shape, "--device",
               arguments.device, "--batch", ",".join(map(str, arguments.batch)), "--context",
               ",".join(map(str, arguments.context)), "--steps", str(arguments.steps),
               "--kv-dtype", "bf16", "--kv-shards", "1", "--page-slots", "64", "--threads",
               str(arguments.threads), "--json", *arguments.pikv_options.split()]
    print(" ".join(command))
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["rows"]
    return {(row["batch"], row["context"]): (row["ms"], row["ms_min"], row["ms_max"])
            for row in rows}


class RandomTransformers:
    """A model of random weights in bfloat16, made where it runs."""

    def __init__(self, folder, device, attention, experts):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        self.torch = torch
        self.device = torch.device(device)
        self.config = AutoConfig.from_pretrained(folder)
        with self.device:
            self.model = AutoModelForCausalLM.from_config(
                self.config, dtype=torch.bfloat16, attn_implementation=attention,
                experts_implementation=experts).eval()

    def random_cache(self, kind, batch, context, room):
        """Keys and values of `context` tokens; a static cache has room for `room` tokens."""
        from transformers import DynamicCache, StaticCache

        cache = (DynamicCache(config=self.config) if kind == "dynamic" else
                 StaticCache(config=self.config, max_cache_len=room))
        head_dim = (getattr(self.config, "head_dim", None) or
                    self.config.hidden_size // self.config.num_attention_heads)
        shape = (batch, self.config.num_key_value_heads, context, head_dim)
        for layer in range(self.config.num_hidden_layers):
            keys, values = (self.torch.randn(shape, dtype=self.torch.bfloat16, device=self.device)
                            for _ in range(2))
            cache.update(keys, values, layer)
        if int(cache.get_seq_length()) != context:
            raise RuntimeError(f"the cache holds {cache.get_seq_length()} of {context} tokens")
        return cache

    def measure(self, kind, batch, context, steps):
        """Milliseconds of decode steps: median, least and most."""
        torch = self.torch
        cache = self.random_cache(kind, batch, context, context + WARM_UP + steps)
        token = torch.ones((batch, 1), dtype=torch.long, device=self.device)
        times = []
        with torch.inference_mode():
            for step in range(WARM_UP + steps):
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                start = time.perf_counter()
                out = self.model(token, past_key_values=cache, use_cache=True, logits_to_keep=1)
                token = out.logits[:, -1:].argmax(-1)
                token.cpu()  # waits for the step
                if step >= WARM_UP:
                    times.append(1e3 * (time.perf_counter() - start))
        if int(cache.get_seq_length()) != context + WARM_UP + steps:
            raise RuntimeError(f"the cache holds {cache.get_seq_length()} tokens after the steps")
        return statistics.median(times), min(times), max(times)


def compare_shape(arguments):
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    device = (torch.cuda.get_device_name() if arguments.device.startswith("cuda") else
              f"{arguments.threads} threads")
    print(f"{platform.platform()}, {device}, torch {torch.__version__} (CUDA {torch.version.cuda}), "
          f"transformers {transformers.__version__}, {arguments.shape}, bfloat16, "
          f"{arguments.steps} steps after {WARM_UP} that warm up")
    figures = {"pikv": bench_pikv(arguments)}
    for attention, experts in itertools.product(("sdpa", "eager"), ("grouped_mm", "eager")):
        model = None
        try:
            model = RandomTransformers(arguments.shape, arguments.device, attention, experts)
        except (ValueError, RuntimeError, TypeError, ImportError) as error:
            print(f"transformers ({attention}, {experts}) does not run: {error}", file=sys.stderr)
            continue
        for kind, batch, context in itertools.product(("static", "dynamic"), arguments.batch,
                                                      arguments.context):
            name = f"transformers, {attention}, {experts}, {kind}"
            try:
                figures.setdefault(name, {})[batch, context] = model.measure(
                    kind, batch, context, arguments.steps)
                print(f"{name}, batch {batch}, context {context}: "
                      f"{figures[name][batch, context][0]:.2f} ms", file=sys.stderr, flush=True)
            except (ValueError, RuntimeError, TypeError) as error:
                print(f"{name} does not run at batch {batch}, context {context}: {error}",
                      file=sys.stderr)
        del model  # before the next one is made
        gc.collect()
        if arguments.device.startswith("cuda"):
            torch.cuda.empty_cache()
    for batch, context in itertools.product(arguments.batch, arguments.context):
        print(f"\nbatch {batch}, context {context}\n{'':<44} {'ms a step':>26}")
        measured = {name: rows[batch, context] for name, rows in figures.items()
                    if (batch, context) in rows}
        for name, (median, least, most) in measured.items():
            print(f"{name:<44} {f'{median:.2f} ({least:.2f}-{most:.2f})':>26}")
        peers = [name for name in measured if name != "pikv"]
        if not peers:
            sys.exit("transformers ran in no configuration")
        best = min(peers, key=lambda name: measured[name][0])
        print(f"pikv is {measured[best][0] / measured['pikv'][0]:.2f} times as fast as the fastest "
              f"({best})")


def main():
    arguments = parse_arguments()
    if arguments.shape:
        compare_shape(arguments)
        return
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    print(f"{platform.platform()}, {arguments.threads} threads, torch {torch.__version__}, "
          f"transformers {transformers.__version__}, {arguments.rounds} rounds, "
          f"{arguments.context[0]} prompt and {arguments.decode_tokens} decode tokens, "
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
            peer.run(batch, arguments.context[0], 4)
        for _ in range(arguments.rounds):
            for dtype, short in DTYPES.items():
                figures.setdefault(f"{dtype}, pikv", []).append(run_pikv(arguments, batch, short))
            for peer in peers:
                figures.setdefault(peer.name, []).append(
                    peer.run(batch, arguments.context[0], arguments.decode_tokens))
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
