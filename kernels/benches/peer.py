"""The forward pass of benches/language.rs in PyTorch, for a ratio on one machine.

    pip install torch
    python kernels/benches/peer.py [--device cpu|cuda] [--layers 2] [--rounds 3]

A Llama of the same shapes with random weights, from tokens to each token's log-probability. On a CPU one thread works, and
processor time counts, as in `cargo bench -p waag-kernels --bench language`: run both by turns. GFLOP/s count two operations
for each weight of a matrix and token, and four for each product of attention under the mask, as there.
"""

import argparse
import math
import time

import torch

HIDDEN, INNER, HEADS, KV_HEADS, HEAD, VOCABULARY = 2048, 5632, 32, 4, 64, 32_000


def layer(generator, dtype, device):
    def matrix(rows, columns):
        weights = torch.randn(rows, columns, generator=generator) / math.sqrt(columns)
        return weights.to(torch.bfloat16).to(device=device, dtype=dtype)

    return {
        "q": matrix(HEADS * HEAD, HIDDEN),
        "k": matrix(KV_HEADS * HEAD, HIDDEN),
        "v": matrix(KV_HEADS * HEAD, HIDDEN),
        "o": matrix(HIDDEN, HEADS * HEAD),
        "gate": matrix(INNER, HIDDEN),
        "up": matrix(INNER, HIDDEN),
        "down": matrix(HIDDEN, INNER),
    }


def norm(x):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def rotate(x, angles):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * angles.cos().to(x.dtype) + turned * angles.sin().to(x.dtype)


def forward(layers, table, tokens):
    batch, length = tokens.shape
    x = table[tokens]
    frequency = 10_000 ** (-torch.arange(0, HEAD, 2, device=x.device).float() / HEAD)
    angles = torch.outer(torch.arange(length, device=x.device).float(), frequency).repeat(1, 2)
    for of in layers:
        y = norm(x)
        q = rotate((y @ of["q"].T).view(batch, length, HEADS, HEAD).transpose(1, 2), angles)
        k = rotate((y @ of["k"].T).view(batch, length, KV_HEADS, HEAD).transpose(1, 2), angles)
        v = (y @ of["v"].T).view(batch, length, KV_HEADS, HEAD).transpose(1, 2)
        k, v = (part.repeat_interleave(HEADS // KV_HEADS, 1) for part in (k, v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + y.transpose(1, 2).reshape(batch, length, HEADS * HEAD) @ of["o"].T
        y = norm(x)
        x = x + (torch.nn.functional.silu(y @ of["gate"].T) * (y @ of["up"].T)) @ of["down"].T
    logits = (norm(x) @ table.T).float()
    return torch.log_softmax(logits, -1).gather(-1, tokens[:, :, None])


def operations(layers, batch, length):
    weights = layers * (2 * HIDDEN * HEADS * HEAD + 2 * HIDDEN * KV_HEADS * HEAD + 3 * HIDDEN * INNER)
    dense = 2 * batch * length * weights + 2 * batch * length * HIDDEN * VOCABULARY
    attention = 4 * layers * batch * HEADS * HEAD * length * (length + 1) / 2
    return dense + attention


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    on_gpu = asked.device != "cpu"
    torch.set_num_threads(1)
    clock = time.perf_counter if on_gpu else time.process_time
    print(f"torch {torch.__version__}, {asked.device}, {asked.layers} layers; GFLOP/s, the best of {asked.rounds} rounds")
    for dtype in (torch.float32, torch.bfloat16):
        generator = torch.Generator().manual_seed(1)
        layers = [layer(generator, dtype, asked.device) for _ in range(asked.layers)]
        table = torch.randn(VOCABULARY, HIDDEN, generator=generator).to(asked.device, dtype) * 0.02
        for batch, length in ((4, 128), (1, 1024)):
            tokens = torch.randint(0, VOCABULARY, (batch, length), generator=generator).to(asked.device)
            best = math.inf
            with torch.inference_mode():
                forward(layers, table, tokens)
                for _ in range(asked.rounds):
                    if on_gpu:
                        torch.cuda.synchronize()
                    start = clock()
                    forward(layers, table, tokens)
                    if on_gpu:
                        torch.cuda.synchronize()
                    best = min(best, clock() - start)
            rate = operations(asked.layers, batch, length) / best / 1e9
            print(f"{str(dtype)[6:]:>9} {batch} x {length:<5} {rate:8.1f}")


if __name__ == "__main__":
    main()
