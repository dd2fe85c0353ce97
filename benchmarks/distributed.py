"""What one training step sends between processes, and the bound that it sets on scaling.

    python -m benchmarks.distributed [--compute SECONDS] [--hop SECONDS] [OPTIONS OF train.py ...]

Counted from the networks of the options, not measured: on a ring of P processes 2 (P - 1) / P of the payload pass each
process's link, and every message takes 2 (P - 1) hops. Nothing is taken to be hidden behind the computation.
"""

import argparse

from model.errors import run_cli
from model.ops.gradient_sum import buckets, byte_count

PROCESSES = (2, 8, 64, 512)
LINKS = {"10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9, "300 GB/s": 300e9}  # bytes a second, one way


def traffic_per_step(trainer):
    """What each process hands to all-reduces in one `Trainer.step` that moves G: {kind: (bytes, messages)}.

    A batch norm over all processes sends 2 C + 1 float64 in a forward pass and 2 C in a backward pass, for C channels;
    a block's norm_s has the moments of norm_0. G and E pass forward once more for D's step. Over a ring of P processes
    each then sends and receives 2 (P - 1) / P of the bytes.
    """
    opt, nets = trainer.opt, trainer.networks()
    trained = [trainer.G.parameters() + (trainer.E.parameters() if trainer.E else []), trainer.D.parameters()]
    gradients = sum(byte_count(p) for parameters in trained for p in parameters)
    fresh = not opt.reuse_fake
    passes = {"n_g": (1 + fresh + opt.recompute, 1), "n_e": (1 + fresh, 1), "n_d": (2, 2)}
    statistics, norms = 0, 0
    for name, net in nets.items():
        forward, backward = passes[name]
        for path, layer in net.named_sublayers():
            if getattr(layer, "sync", False) and "norm_s." not in path:
                channels = layer.running_mean.shape[0]
                statistics += 8 * (forward * (2 * channels + 1) + backward * 2 * channels)
                norms += forward + backward
    losses = 3 + opt.use_vae + (not opt.no_ganFeat_loss) + (not opt.no_vgg_loss)
    return {
        "gradients": (gradients, sum(len(buckets(parameters)) for parameters in trained)),
        "statistics": (opt.accumulate * statistics, opt.accumulate * norms),
        "messages": (8 * losses, 1),
    }


def ring_seconds(size, messages, world, rate, hop):
    """Time that all-reduces of `size` bytes in so many messages take on a ring.

    Args:
        rate: bytes a second of each link. hop: seconds that a message needs from one process to the next.
    """
    return 2 * (world - 1) * (size / world / rate + messages * hop)


def table(traffic, compute, hop):
    """Lines of a table: bytes and seconds of a step's exchange, and the share of the speed that it leaves."""
    size, messages = (sum(each) for each in zip(*traffic.values(), strict=True))
    yield "| processes | MB sent by each | " + " | ".join(f"{link}: s, efficiency" for link in LINKS) + " |"
    yield "|---|---|" + "---|" * len(LINKS)
    for world in PROCESSES:
        cells = [f"{world}", f"{2 * (world - 1) / world * size / 1e6:,.1f}"]
        for rate in LINKS.values():
            seconds = ring_seconds(size, messages, world, rate, hop)
            cells.append(f"{seconds:.3f}, {compute / (compute + seconds):.0%}")
        yield "| " + " | ".join(cells) + " |"


def main(argv=None):
    """Print the counts and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--compute", type=float, default=1.0, help="seconds that a step computes (default: 1)")
    parser.add_argument("--hop", type=float, default=10e-6, help="seconds of a message's hop (default: 1e-5)")
    args, rest = parser.parse_known_args(argv)

    from model.command_line import parse_train
    from model.trainer import Trainer

    trainer = Trainer(parse_train(["--no_vgg_loss", *rest]))
    traffic = traffic_per_step(trainer)
    for kind, (size, messages) in traffic.items():
        print(f"{kind}: {size:,} bytes in {messages} messages")
    print(*table(traffic, args.compute, args.hop), sep="\n")


if __name__ == "__main__":
    run_cli(main)
