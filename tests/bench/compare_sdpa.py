# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
"""Attention of PyTorch's scaled_dot_product_attention, for cuda_attention_bench and cuda_prefill_bench.

    python3 tests/bench/compare_sdpa.py [decode] [prefill]

Decode: every backend that takes a shape, with the query heads of a group as they are (enable_gqa) and as
rows of one head, which reads each key once. Contiguous bf16 keys and values, no mask; copies that
exceed any cache take turns; medians between events, 40 calls after 5. Prefill: a causal mask over as many
rows as tokens, the heads of a group as they are and with keys and values repeated for each; of operations
only those that the mask leaves are counted.
"""
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

TOTAL_BYTES = 2 << 30
RAGGED = [131072, 65536, 65536, 40000, 32768, 32768, 24001, 20000, 16384, 16384, 9001, 8192, 8192, 4096, 2048,
          1024, 1024, 777, 512, 512, 300, 128, 33, 1]
SHAPES = [
    ("16 x 32,768, 32/4", 32, 4, [32768] * 16),
    ("1 x 131,072, 32/4", 32, 4, [131072]),
    ("64 x 4,096, 32/8", 32, 8, [4096] * 64),
    ("24 ragged, 32/8", 32, 8, RAGGED),
    ("32 x 32,768, 32/4, 64", 32, 4, [32768] * 32, 64),
    ("8 x 32,768, 32/4, 256", 32, 4, [32768] * 8, 256),
]
PREFILL_SHAPES = [
    ("8,192, 32/4", 1, 8192, 32, 4, 128),
    ("32,768, 32/4", 1, 32768, 32, 4, 128),
    ("8 x 2,048, 32/4", 8, 2048, 32, 4, 128),
    ("8,192, 32/32", 1, 8192, 32, 32, 128),
    ("8,192, 32/4, D = 64", 1, 8192, 32, 4, 64),
    ("8,192, 16/4, D = 256", 1, 8192, 16, 4, 256),
]
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def median_us(call, warm_ups=5, repeats=40):
    times = []
    for i in range(warm_ups + repeats):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        call(i)
        end.record()
        end.synchronize()
        if i >= warm_ups:
            times.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(times)


def batches(tokens):
    """Sequences of one length share a call, those of others have their own: there is no padding."""
    groups = {}
    for length in tokens:
        groups[length] = groups.get(length, 0) + 1
    return [(count, length) for length, count in groups.items()]


def measure(name, num_heads, num_kv_heads, tokens, head_dim=128):
    group = num_heads // num_kv_heads
    kv_bytes = sum(tokens) * num_kv_heads * head_dim * 2 * 2
    copies = TOTAL_BYTES // kv_bytes + 1
    make = lambda *shape: torch.randn(*shape, head_dim, device="cuda", dtype=torch.bfloat16)
    parts = [
        (make(count, num_heads, 1), [(make(count, num_kv_heads, length), make(count, num_kv_heads, length))
                                     for _ in range(copies)])
        for count, length in batches(tokens)
    ]
    for backend_name, backend in BACKENDS.items():
        for folded in (False, True):
            def call(i):
                for q, kv in parts:
                    k, v = kv[i % copies]
                    if folded:
                        rows = q.view(q.shape[0], num_kv_heads, group, head_dim)
                        F.scaled_dot_product_attention(rows, k, v)
                    else:
                        F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

            label = f"{backend_name}{' folded' if folded else ''}"
            try:
                with sdpa_kernel(backend):
                    us = median_us(call)
            except RuntimeError as error:
                print(f"{name:21} {label:16} refused: {str(error).splitlines()[0][:60]}")
                continue
            # Without the gaps between launches, as in a captured step.
            try:
                with sdpa_kernel(backend):
                    graphs = []
                    for i in range(copies):
                        graph = torch.cuda.CUDAGraph()
                        with torch.cuda.graph(graph):
                            call(i)
                        graphs.append(graph)
                graph_us = median_us(lambda i: graphs[i % copies].replay())
            except RuntimeError:
                graph_us = float("nan")
            print(f"{name:21} {label:16} {us:9.1f} us, as a graph {graph_us:9.1f} us "
                  f"{kv_bytes / min(us, graph_us if graph_us == graph_us else us) * 1e-6:6.2f} TB/s of KV", flush=True)


def measure_prefill(name, batch, length, num_heads, num_kv_heads, head_dim):
    make = lambda heads: torch.randn(batch, heads, length, head_dim, device="cuda", dtype=torch.bfloat16)
    q, k, v = make(num_heads), make(num_kv_heads), make(num_kv_heads)
    group = num_heads // num_kv_heads
    operations = 4 * batch * length * length / 2 * num_heads * head_dim
    for backend_name, backend in BACKENDS.items():
        for repeated in (False, True):
            keys, values = (x.repeat_interleave(group, 1) if repeated else x for x in (k, v))
            label = f"{backend_name}{' repeated' if repeated else ''}"
            try:
                with sdpa_kernel(backend):
                    us = median_us(lambda i: F.scaled_dot_product_attention(
                        q, keys, values, is_causal=True, enable_gqa=not repeated))
            except RuntimeError as error:
                print(f"{name:22} {label:18} refused: {str(error).splitlines()[0][:60]}")
                continue
            print(f"{name:22} {label:18} {us:10.1f} us {operations / us * 1e-6:7.1f} TFLOP/s", flush=True)


def main():
    asked = sys.argv[1:] or ["decode", "prefill"]
    unknown = set(asked) - {"decode", "prefill"}
    if unknown:
        sys.exit(f"compare_sdpa: {', '.join(sorted(unknown))} is neither decode nor prefill")
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    if "prefill" in asked:
        for shape in PREFILL_SHAPES:
            measure_prefill(*shape)
            torch.cuda.empty_cache()
    if "decode" not in asked:
        return
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    us = median_us(lambda i: target.copy_(source))
    print(f"device copy: {2 * 4 * source.numel() / us * 1e-6:.2f} TB/s, read and written")
    del source, target
    for shape in SHAPES:
        measure(*shape)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
