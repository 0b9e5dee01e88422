"""A CIFAR-10 of 26 images in the published format, and a loopback server that serves it well or badly."""

import hashlib
import io
import pickle
import struct
import tarfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import msgspec
import numpy as np
import torchvision

from resnet_cli.data import cifar

CLASS_NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
FINE_NAMES = b"""
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
""".split()
COARSE_NAMES = b"""
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2
""".split()
META_100 = {b"fine_label_names": FINE_NAMES, b"coarse_label_names": COARSE_NAMES}
META = {b"num_cases_per_batch": 10000, b"label_names": CLASS_NAMES, b"num_vis": 3072}


class Python2Pickler(pickle._Pickler):
    """Writes bytes and arrays as Python 2 and NumPy 1 did in protocol 2."""

    def save_bytes(self, value):
        short = len(value) < 256
        self.write((b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<I", len(value))) + value)
        self.memoize(value)

    dispatch: ClassVar = pickle._Pickler.dispatch | {bytes: save_bytes}

    def put(self, index):
        return super().put(index + 1)  # Python 2 counted from one

    def get(self, index):
        return super().get(index + 1)


def python2_pickle(values):
    buffer = io.BytesIO()
    Python2Pickler(buffer, 2).dump(values)
    return buffer.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


def batch(name, count, seed):
    random = np.random.default_rng(seed)
    return {
        b"batch_label": name.encode(),
        b"labels": [int(label) for label in random.integers(0, 10, count)],
        b"data": random.integers(0, 256, (count, 3072), np.uint8),
        b"filenames": [b"image_%d.png" % i for i in range(count)],
    }


def tar_gz(members, folder="cifar-10-batches-py"):
    """An archive like the published one: the folder, a page about it, then the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(folder)
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
        for name, data in {"readme.html": b"<html>", **members}.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class TinyCifar:
    """Five training batches of four images and a test batch of six.

    Args:
        replaced: pickles by file name, in place of those of random images.
    """

    def __init__(self, **replaced):
        counts = {**{f"data_batch_{i}": 4 for i in range(1, 6)}, "test_batch": 6}
        self.batches = {name: batch(name, count, seed) for seed, (name, count) in enumerate(counts.items())}
        self.files = {name: python2_pickle(values) for name, values in self.batches.items()}
        self.files |= {"batches.meta": python2_pickle(META)} | replaced
        # the real archive's order is not the order of the batches
        self.archive = tar_gz(dict(reversed(self.files.items())))

    def publish(self, monkeypatch):
        """Put this dataset in the place of CIFAR-10."""
        publish(monkeypatch, cifar.CIFAR10, self.archive)
        md5 = {name: hashlib.md5(data, usedforsecurity=False).hexdigest() for name, data in self.files.items()}
        known = torchvision.datasets.CIFAR10
        for attribute in ("train_list", "test_list"):
            monkeypatch.setattr(known, attribute, [[name, md5[name]] for name, _ in getattr(known, attribute)])
        monkeypatch.setattr(known, "meta", known.meta | {"md5": md5["batches.meta"]})

    def unpack(self, folder):
        folder.mkdir(parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)


def publish(monkeypatch, spec, archive):
    """Make `archive` the one that `spec` describes."""
    changed = msgspec.structs.replace(spec, size=len(archive), sha256=hashlib.sha256(archive).hexdigest())
    monkeypatch.setitem(cifar.SPECS, spec.name, changed)


class Server(ThreadingHTTPServer):
    """Serves `content` and records the range of each request and the number of bytes sent."""

    supports_ranges = True
    sends_length = True
    announced_length = None
    """Value of Content-Length in place of the true one."""
    shift = 0
    """Distance in bytes between the requested and the actual start of a part."""
    pause_seconds = 0.0
    """Time between the last byte of a cut response and the loss of the connection."""
    redirect = None
    """Address to send every request to."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/cifar-10-python.tar.gz"
        self.content, self.requests, self.sent = content, [], []
        self.cut_after = []  # for each coming request, the number of bytes after which the connection is lost
        self.answers = []  # for each coming request, an HTTP status to answer instead

    def handle_error(self, request, client_address):
        """Ignore clients that hang up: some tests do."""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Print nothing."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.supports_ranges else 0
        if server.answers or (start and start >= len(server.content)):
            self.send_error(server.answers.pop(0) if server.answers else 416)
            return
        self.send_response(206 if start else 200)
        first, last = start + (server.shift if start else 0), len(server.content)
        body = server.content[first:]
        if start:
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{last}")
        if server.sends_length:
            self.send_header("Content-Length", server.announced_length or str(len(body)))
        self.end_headers()
        cut = server.cut_after.pop(0) if server.cut_after else None
        server.sent.append(len(body[:cut]))
        self.wfile.write(body[:cut])
        if cut is not None:
            time.sleep(server.pause_seconds)
