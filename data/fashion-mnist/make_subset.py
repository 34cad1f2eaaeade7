#!/usr/bin/env python3
"""Draws the subset in this folder from the full Fashion-MNIST: the first N images of each class, in the order of the source.

    python3 make_subset.py [SOURCE_DIR]     # default: where Debian's package dataset-fashion-mnist puts it

The source's order is already shuffled, so "the first N of each class" is a fair sample, needs no random numbers, and gives the
same bytes on every machine. Needs nothing beyond Python's own library.
"""
import gzip
import struct
import sys
from pathlib import Path

PER_CLASS = {"train": 1000, "t10k": 200}
CLASSES = 10


def read(path, magic):
    data = gzip.decompress(path.read_bytes())
    if struct.unpack_from(">I", data)[0] != magic:
        sys.exit(f"{path}: not an idx file with magic {magic:#x}")
    rank = magic & 0xFF
    return struct.unpack_from(f">{rank}I", data, 4), data[4 + 4 * rank:]


def write(path, magic, shape, body):
    header = struct.pack(f">{1 + len(shape)}I", magic, *shape)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as out:  # no name and no time: same bytes each run
        out.write(header + body)


def main():
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist")
    target = Path(__file__).parent
    for split, per_class in PER_CLASS.items():
        images_name, labels_name = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
        (count, rows, columns), pixels = read(source / images_name, 0x803)
        (label_count,), labels = read(source / labels_name, 0x801)
        assert count == label_count, f"{count} images but {label_count} labels"
        taken, chosen = [0] * CLASSES, []
        for index, label in enumerate(labels):
            if taken[label] < per_class:
                taken[label] += 1
                chosen.append(index)
        size = rows * columns
        write(target / images_name, 0x803, (len(chosen), rows, columns), b"".join(pixels[i * size:(i + 1) * size] for i in chosen))
        write(target / labels_name, 0x801, (len(chosen),), bytes(labels[i] for i in chosen))
        print(f"{split}: {len(chosen)} of {count}, per class {taken}")


main()
