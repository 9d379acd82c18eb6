"""Which of PyTorch's two libraries multiplies faster: MKL (`torch.mm`) or oneDNN, by size.

    python benchmarks/products.py

For minibatches of N rows through a layer of [K, M]: the values, and both gradients, each by both
libraries in turn; the number is MKL's CPU time over oneDNN's, the median of five turns. The table
goes to `benchmarks/results/products.md`; `networks/products.py` takes its limit from there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from evidence import RESULTS, versions
from speed_report import cpu
from torch import Tensor

from neuraxis.networks import products

ROWS = (16, 32, 64, 128, 256, 1024)
LAYERS = ((4, 256), (64, 64), (128, 128), (64, 256), (256, 256), (512, 512), (3136, 512))
TURNS = 5
SECONDS = 0.004  # of a turn, about


def ratio(mkl: Callable[[], Tensor], onednn: Callable[[], Tensor], count: int) -> float:
    """How many times as fast oneDNN is."""
    found = []
    for _ in range(TURNS):
        seconds = []
        for run in (mkl, onednn):
            run()
            begin = time.process_time()
            for _ in range(count):
                run()
            seconds.append(time.process_time() - begin)
        found.append(seconds[0] / seconds[1])
    return statistics.median(found)


def cell(rows: int, inputs: int, outputs: int) -> str:
    """The ratios of the values, of the gradient of the inputs, and of that of the weight."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    bias, grad = torch.randn(outputs), torch.randn(rows, outputs)
    affine = torch.ops.neuraxis.affine
    size = rows * inputs * outputs
    count = max(3, int(SECONDS * 5e10 / size))
    ratios = [
        ratio(
            lambda: torch.addmm(bias, x, weight.t()),
            lambda: affine(x, weight, bias),
            count,
        ),
        ratio(lambda: grad.mm(weight), lambda: affine(grad, weight.t(), None), count),
        ratio(lambda: grad.t().mm(x), lambda: affine(grad.t(), x.t(), None), count),
    ]
    text = ", ".join(f"{one:.1f}" for one in ratios)
    return f"**{text}**" if size >= products.LARGE else text


def main() -> None:
    """Measures and writes the table."""
    torch.set_num_threads(1)
    lines = [
        "# oneDNN against MKL",
        "",
        "How many times as fast oneDNN multiplies: values, gradient of the inputs, gradient of the",
        f"weight. Bold: {products.LARGE:,} multiplications or more, where neuraxis takes it on",
        "such a processor.",
        "",
        f"| layer | {' | '.join(f'{rows} rows' for rows in ROWS)} |",
        f"|---|{'---|' * len(ROWS)}",
        *(
            f"| {inputs} to {outputs} | "
            + " | ".join(cell(rows, inputs, outputs) for rows in ROWS)
            + " |"
            for inputs, outputs in LAYERS
        ),
        "",
        f"`python benchmarks/products.py`, {versions()}: {cpu()}.",
        "",
    ]
    (RESULTS / "products.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
